"""Routes as llm-d's InferenceModelRewrite objects: the second traffic backend, where llm-d's routers split the traffic.

    manifest.py   what a route's object says, and what must be done about the one that is there; pure
    api.py        the calls to the Kubernetes API
    loop.py       looks at each route's object when the route changes, and now and then
"""
