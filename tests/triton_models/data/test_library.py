"""The hold-out list is a closed door, and the label table says one thing of each model."""

from __future__ import annotations

from pathlib import Path

import pytest

from dotstream.errors import Misconfigured
from triton_models.data.furniture import chosen_models
from triton_models.data.labels import LabelTable, furniture_labels
from triton_models.data.library import FurnitureModel, held_out, read_libraries, unpack
from triton_models.data.views import render_all


@pytest.fixture(scope="module")
def models() -> list[FurnitureModel]:
    return read_libraries()


def test_every_listed_model_is_in_the_libraries_and_none_is_chosen(models: list[FurnitureModel]) -> None:
    listed = held_out()
    assert len(listed) == 71
    names = {key for model in models for key in model.keys}
    assert listed <= names
    assert not {key for model in chosen_models(models, ()) for key in model.keys} & listed


@pytest.mark.parametrize("name", ["Scopia#sneakers", "Scopia#livingroom_lamp1", "Scopia#living_room_lamp1"])
def test_a_held_out_model_is_refused_at_every_door(models: list[FurnitureModel], name: str, tmp_path: Path) -> None:
    """By its identifier and by its folder."""
    model = next(model for model in models if name in model.keys)
    with pytest.raises(Misconfigured, match="held out"):
        chosen_models(models, [name])
    with pytest.raises(Misconfigured, match="hold-out list"):
        unpack(model, tmp_path)
    with pytest.raises(Misconfigured, match="hold-out list"):
        render_all([model], tmp_path, count=1, size=64, seed=0, jobs=1)
    assert not list(tmp_path.iterdir())


def test_unknown_models_are_named(models: list[FurnitureModel]) -> None:
    with pytest.raises(Misconfigured, match="Scopia#nothing"):
        chosen_models(models, ["Scopia#nothing"])


def test_missing_libraries_say_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="sweethome3d-furniture"):
        read_libraries(tmp_path)


def test_catalogue_entries_are_read(models: list[FurnitureModel]) -> None:
    assert len(models) == 820
    by_key = {model.key: model for model in models}
    bus = by_key["Scopia#bus"]
    assert (bus.name, bus.category, bus.licence, bus.member) == ("Bus", "Vehicles", "CC-BY-3.0", "scopia/bus/bus.obj")
    assert by_key["Scopia#billet-10-euros"].name == "Bill 10€"


def test_unpacked_material_and_faces_are_what_the_renderer_can_read(
    models: list[FurnitureModel], tmp_path: Path
) -> None:
    chest = next(model for model in models if model.key == "BlendSwap-CC-BY#chest")
    obj = unpack(chest, tmp_path)
    faces = [line.split() for line in obj.read_text("latin-1").splitlines() if line.startswith("f ")]
    assert faces and min(len(face) for face in faces) >= 4
    assert "map_Bump" not in obj.with_suffix(".mtl").read_text()


def test_the_table_names_the_classes_that_the_data_can_carry(models: list[FurnitureModel]) -> None:
    table = furniture_labels()
    labelled = [table.label_of(model) for model in chosen_models(models, ())]
    names = {label.name for label in labelled if label is not None}
    assert {"Couch", "Lamp", "Bed", "Bag", "Hat", "Dress", "Car", "Chair", "Person"} <= names
    assert {label.group for label in table.labels.values()} == {"home_decor", "fashion", "vehicles", "people"}


def test_category_goes_before_the_bare_name(models: list[FurnitureModel]) -> None:
    table = furniture_labels()
    labels = {model.key: table.label_of(model) for model in models}
    indoors, outdoors = labels["Scopia#ficus"], labels["Scopia#ficusTree"]
    assert indoors is not None and indoors.name == "Houseplant" and outdoors is None


def test_a_name_under_two_labels_is_refused() -> None:
    with pytest.raises(Misconfigured, match="both Chair and Stool"):
        LabelTable('[home]\nChair = ["Seat"]\nStool = ["Seat"]\n')
