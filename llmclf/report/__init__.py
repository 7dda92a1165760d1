"""Reports over finished run folders: JSON and Parquet in, tables out."""
