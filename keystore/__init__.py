"""What a key manager does: the Django app behind every transport."""
