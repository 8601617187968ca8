__version__ = "0.4.0"

from importlib import import_module

_home = {'Pose': 'pose', 'BadInput': 'pose', 'Corpus': 'corpus', 'spot': 'spotting', 'Spots': 'spotting'}
__all__ = ['__version__', *_home]


def __getattr__(name):
    "Import what is asked for when it is asked for (PEP 562), so that `import signspot` stays fast."
    if name not in _home: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_home[name]}'), name)


def __dir__(): return sorted({*globals(), *_home})
