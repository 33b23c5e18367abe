"""Wires stream and reconstruction together: configuration, service, session files, command line."""
