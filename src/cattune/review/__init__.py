"""`cattune review`: a local web page on which people look at causal links and correct them.

`source` reads single examples out of a large file and copies it with some of them replaced; `index` holds what the
filters need; `edits` are functions from an example to an example; `journal` keeps edits that are not saved yet;
`document` joins these. `wire` is the JSON that the page speaks, `app` the web server's routes, `server` runs it, and
`static/` is the page.
"""
