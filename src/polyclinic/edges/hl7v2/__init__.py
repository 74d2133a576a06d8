"""HL7 v2 (2.3.1 to 2.5.1) over MLLP: patients and orders in, results out."""
