"""The assessment bench: statistics with intervals, readers of annotated data, and how an agent's outcome is judged.

Everything here is a pure function of its input and its seed. `polyclinic.app.assess` runs an agent over a dataset and
writes the record and the report.
"""
