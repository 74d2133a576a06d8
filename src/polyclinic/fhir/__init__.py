"""Between nouns and FHIR R4 JSON. No HTTP."""
