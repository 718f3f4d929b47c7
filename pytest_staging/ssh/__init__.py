"""Programs, files and ports of another machine over one kept SSH connection. Nothing here knows about cells.

`config.resolve_endpoint` says where a host is, `connection.SshConnection` talks to it, `files`, `sync` and `forward`
work on such a connection. paramiko is imported by the modules that need it, so import those only for a host.
"""
