"""Protocols, metrics and floors."""
