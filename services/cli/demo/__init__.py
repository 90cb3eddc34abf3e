"""`tuneloop demo`: the whole loop, for real, on one machine, told in three datasets."""
