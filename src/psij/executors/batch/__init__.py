"""The executors for batch schedulers, imported when they are asked for."""


def __getattr__(name: str) -> object:
    import importlib

    try:
        return importlib.import_module(f'{__name__}.{name}')
    except ModuleNotFoundError as ex:
        if ex.name != f'{__name__}.{name}':
            raise
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
