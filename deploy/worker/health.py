"""Ends with 0 when the worker beside it is connected to its broker. Imports little: it runs every few seconds."""

import socket

with socket.create_connection(("127.0.0.1", 9100), timeout=2) as connection:
    connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
    connection.settimeout(2)
    answer = connection.recv(64)
raise SystemExit(0 if b" 200 " in answer.split(b"\r\n")[0] else 1)
