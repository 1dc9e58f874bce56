"""One suite over every executor and launcher: what a user may expect of any of them."""
