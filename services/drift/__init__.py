"""Watches whether live traffic still looks like what each model version was made for. It never touches traffic."""
