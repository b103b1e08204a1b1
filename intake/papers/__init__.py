"""The papers that an applicant is handed: their key, their API, and how anyone verifies one."""
