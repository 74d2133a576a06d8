"""Images as they came: receive, keep, index, find. Nothing here is ever rewritten."""
