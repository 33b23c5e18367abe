"""A finished or interrupted session as one page of pictures, and as files for other programs."""
