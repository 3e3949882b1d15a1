"""Tools behind which a vision-language chat model stands."""
