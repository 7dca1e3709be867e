"""Where bars come from: folders of parquet files, exchange archives, and a simulated market."""
