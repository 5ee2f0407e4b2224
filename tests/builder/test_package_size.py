"""What packages weigh: every byte above the base has an owner, once."""

from __future__ import annotations

from workshop import Workshop

from mealkit_builder.listing import list_layer
from mealkit_builder.package_size import weigh
from mealkit_builder.remote import open_image


def test_every_byte_is_some_packages(shop: Workshop) -> None:
    shop.wheel(
        "heavy", files={"heavy/__init__.py": "X = 1\n", "heavy/data.bin": bytes(50_000), "heavy/deep/mod.py": "Y = 2\n"}
    )
    root = shop.recipe("weighed", dependencies=["heavy"])
    record = shop.build(root)
    with open_image(record.url, shop.environment) as found:
        image = found.pulled.image
        weights = weigh(image, found.open_layer)
        total = 0
        for layer in image.layers:
            if layer.kind not in ("", "base"):
                with found.open_layer(layer.digest) as file:
                    total += sum(entry.size for entry in list_layer(file, layer))
    assert sum(package.total for package in weights.packages) == total
    assert weights.packages == tuple(sorted(weights.packages, key=lambda one: (-one.total, one.name)))
    by_name = {package.name: package for package in weights.packages}
    heavy = by_name["heavy"]
    assert (heavy.version, heavy.kind) == ("1.0", "wheel")
    assert heavy.size > 50_000
    assert heavy.bytecode > 0
    assert by_name["weighed"].kind == "recipe"
    assert by_name["mealkit-runtime"].kind == "mealkit"
    assert weights.size == record.size
    assert weights.base == len([layer for layer in image.layers if layer.kind in ("", "base")])


def test_layers_of_this_machine_are_not_pulled(shop: Workshop) -> None:
    record = shop.build(shop.recipe("weighed-here"))
    opened = []
    with open_image(record.url, shop.environment, store=shop.store) as found:
        found.source.open_blob = lambda digest: opened.append(digest)  # type: ignore[method-assign,assignment,return-value]
        weigh(found.pulled.image, found.open_layer)
    assert opened == []
