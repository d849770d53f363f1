"""gunicorn's configuration: the guard starts in each worker. gunicorn runs this file apart from the app's module."""


def post_worker_init(worker):
    """Be called in a worker that has loaded the app."""
    import web_app

    if web_app.WAY == "worker":
        web_app.guard.start()
