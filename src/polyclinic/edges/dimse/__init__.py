"""The DICOM node: associations (PS3.8) and DIMSE services (PS3.7), as acceptor and as requestor."""
