"""The backing by the service: `cimd-cache serve`, over its Unix socket or a URL."""
