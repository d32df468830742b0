"""The end of every detector's graph: non-maximum suppression and its answers as tensors of fixed shape.

The same for the ported detector (export_ssd.py) and for those that were trained here (detectors/export.py); in torch it
is triton_models/detectors/suppression.py. Outputs per picture, best first and padded to 100 rows:

    boxes    float32 [N, 100, 4]   x0, y0, x1, y1 in 0..1; padding 0
    labels   int32 [N, 100]        from 0; padding -1
    scores   float32 [N, 100]      falling; padding 0
"""

from __future__ import annotations

from triton_models.onnx_graph import BATCH, FLOAT, INT32, GraphBuilder

MAX_DETECTIONS = 100

OUTPUTS = {
    "boxes": (FLOAT, (BATCH, MAX_DETECTIONS, 4)),
    "labels": (INT32, (BATCH, MAX_DETECTIONS)),
    "scores": (FLOAT, (BATCH, MAX_DETECTIONS)),
}


def suppress(graph: GraphBuilder, boxes: str, scores: str, *, candidates: int, nms_iou: float, floor: float) -> None:
    """Class by class non-maximum suppression, then the best 100 of all classes, padded.

    Args:
        graph: gets the three outputs.
        boxes: float32 [N, A, 4], corners, one box for each candidate whatever its class; cut at the edges here.
        scores: float32 [N, C, A].
        candidates: A.
        nms_iou: overlap above which the box of lower score goes.
        floor: candidates up to this score are left out.
    """
    selected = _selected(graph, boxes, scores, nms_iou, floor)
    # NonMaxSuppression answers a ragged list of (picture, class, anchor). Scattered back over zeros it is a tensor
    # with a row per picture again, of which TopK takes the best and zeros are the padding.
    nothing = graph.node("Mul", scores, graph.constant(0.0))
    kept = graph.node("ScatterND", nothing, selected, graph.node("GatherND", scores, selected))
    flat = graph.node("Reshape", kept, graph.constant([0, -1], "int64"))
    best, places = _best(graph, flat)
    count = graph.constant(candidates, "int64")
    found = _labelled(graph, best, places, count)
    _placed(graph, boxes, graph.node("Mod", places, count), found)


def suppress_by_class(
    graph: GraphBuilder, boxes: str, scores: str, *, classes: int, candidates: int, nms_iou: float, floor: float
) -> None:
    """As `suppress`, with a box of its own for each class: boxes [N, C, A, 4], scores [N, C, A].

    The operator knows one box for each candidate, so every class of every picture is a picture to it.
    """
    rows = graph.node("Reshape", boxes, graph.constant([-1, candidates, 4], "int64"))
    values = graph.node("Reshape", scores, graph.constant([-1, 1, candidates], "int64"))
    selected = _selected(graph, rows, values, nms_iou, floor)
    nothing = graph.node("Mul", values, graph.constant(0.0))
    kept = graph.node("ScatterND", nothing, selected, graph.node("GatherND", values, selected))
    flat = graph.node("Reshape", kept, graph.constant([-1, classes * candidates], "int64"))
    best, places = _best(graph, flat)
    found = _labelled(graph, best, places, graph.constant(candidates, "int64"))
    _placed(graph, graph.node("Reshape", boxes, graph.constant([0, -1, 4], "int64")), places, found)


def _selected(graph: GraphBuilder, boxes: str, scores: str, nms_iou: float, floor: float) -> str:
    return graph.node(
        "NonMaxSuppression",
        boxes,
        scores,
        graph.constant([MAX_DETECTIONS], "int64"),
        graph.constant([nms_iou], "float32"),
        graph.constant([floor], "float32"),
    )


def _best(graph: GraphBuilder, flat: str) -> tuple[str, str]:
    best, places = graph.pair("TopK", flat, graph.constant([MAX_DETECTIONS], "int64"), axis=1, largest=1, sorted=1)
    graph.node("Identity", best, output="scores")
    return best, places


def _labelled(graph: GraphBuilder, best: str, places: str, count: str) -> str:
    labels = graph.node("Cast", graph.node("Div", places, count), to=INT32)
    found = graph.node("Greater", best, graph.constant(0.0))
    graph.node("Where", found, labels, graph.constant(-1, "int32"), output="labels")
    return found


def _placed(graph: GraphBuilder, boxes: str, places: str, found: str) -> None:
    """[N, 100] -> [N, 100, 4]: each detection takes the box at its place; padding takes a box of zeros."""
    anchors = graph.node("Unsqueeze", places, graph.constant([2], "int64"))
    anchors = graph.node("Expand", anchors, graph.constant([1, 1, 4], "int64"))
    inside = graph.node("Clip", boxes, graph.constant(0.0), graph.constant(1.0))
    chosen = graph.node("GatherElements", inside, anchors, axis=1)
    shown = graph.node("Unsqueeze", found, graph.constant([2], "int64"))
    graph.node("Where", shown, chosen, graph.constant(0.0), output="boxes")
