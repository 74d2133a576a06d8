"""Between DICOM datasets and nouns: geometry, volumes, derived objects. No sockets, no files."""
