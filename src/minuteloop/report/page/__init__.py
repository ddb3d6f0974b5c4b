"""A report as one HTML page that needs nothing beside it: template, style and script are files of this folder."""
