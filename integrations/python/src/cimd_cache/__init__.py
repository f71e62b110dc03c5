"""A shared cache of validated OAuth Client ID Metadata Documents, by its service or in this process."""

from .answers import Hit, Lookup, Miss, PutOutcome, Swept
from .async_cache import AsyncCache
from .cache import Cache
from .errors import CimdCacheError

__all__ = ["AsyncCache", "Cache", "CimdCacheError", "Hit", "Lookup", "Miss", "PutOutcome", "Swept"]
__version__ = "0.1.0"
