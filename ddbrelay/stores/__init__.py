"""Where positions, bookmarks and dead letters are kept."""
