"""Reports return text or plain data; whoever asks for them writes or prints."""
