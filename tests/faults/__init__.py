"""What users of such programs have met, each fault as a test; docs/reference/faults.md is the table of them."""
