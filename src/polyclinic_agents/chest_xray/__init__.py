"""Agent for frontal chest radiographs of adults: pneumonia-type opacity and a tuberculosis screening score."""
