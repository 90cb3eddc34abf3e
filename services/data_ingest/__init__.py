"""data_ingest: takes uploads and published datasets, and makes immutable, checked, split dataset versions of them."""
