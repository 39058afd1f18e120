"""The door for sites that call in: enrolment, renewal, and later dial-out."""
