"""Decoders of compressed pixels in processes of their own: a broken stream may end one of those, never the server."""
