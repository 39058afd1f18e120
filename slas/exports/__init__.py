"""Files of reports: the evidence bundle, PDF, XLSX, CSV and JSON."""
