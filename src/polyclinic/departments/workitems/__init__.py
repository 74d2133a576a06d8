"""Work to be done, as DICOM Unified Procedure Steps: created, claimed, followed, finished."""
