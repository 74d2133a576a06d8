"""FHIR R4 (4.0.1) REST over HTTP: one adapter of the record, the archive and the reading room."""
