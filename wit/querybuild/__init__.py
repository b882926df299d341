"""Builds query lists: CLIP section 2.2's recipe from Wikipedia, and one from packages whose licences allow redistribution."""
