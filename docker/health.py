"""A health check without curl: `health.py http://127.0.0.1:8000/livez` or `health.py tcp://127.0.0.1:8000`; the exit code says it."""

import socket
import sys
import urllib.request
from urllib.parse import urlsplit

url = urlsplit(sys.argv[1])
try:
    if url.scheme == "tcp":
        socket.create_connection((url.hostname, url.port), timeout=4).close()
    else:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1], timeout=4).read()
except OSError as error:
    sys.exit(f"{sys.argv[1]}: {error}")
