from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Box(_message.Message):
    __slots__ = ("x0", "y0", "x1", "y1")
    X0_FIELD_NUMBER: _ClassVar[int]
    Y0_FIELD_NUMBER: _ClassVar[int]
    X1_FIELD_NUMBER: _ClassVar[int]
    Y1_FIELD_NUMBER: _ClassVar[int]
    x0: float
    y0: float
    x1: float
    y1: float
    def __init__(self, x0: _Optional[float] = ..., y0: _Optional[float] = ..., x1: _Optional[float] = ..., y1: _Optional[float] = ...) -> None: ...

class Code(_message.Message):
    __slots__ = ("feature", "bits")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    feature: str
    bits: bytes
    def __init__(self, feature: _Optional[str] = ..., bits: _Optional[bytes] = ...) -> None: ...

class Colour(_message.Message):
    __slots__ = ("rgb", "share")
    RGB_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    rgb: int
    share: float
    def __init__(self, rgb: _Optional[int] = ..., share: _Optional[float] = ...) -> None: ...

class DetectedObject(_message.Message):
    __slots__ = ("index", "box", "label", "score", "source", "codes")
    class Source(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SOURCE_UNSPECIFIED: _ClassVar[DetectedObject.Source]
        SOURCE_DETECTOR: _ClassVar[DetectedObject.Source]
        SOURCE_CROPS: _ClassVar[DetectedObject.Source]
    SOURCE_UNSPECIFIED: DetectedObject.Source
    SOURCE_DETECTOR: DetectedObject.Source
    SOURCE_CROPS: DetectedObject.Source
    INDEX_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    index: int
    box: Box
    label: str
    score: float
    source: DetectedObject.Source
    codes: _containers.RepeatedCompositeFieldContainer[Code]
    def __init__(self, index: _Optional[int] = ..., box: _Optional[_Union[Box, _Mapping]] = ..., label: _Optional[str] = ..., score: _Optional[float] = ..., source: _Optional[_Union[DetectedObject.Source, str]] = ..., codes: _Optional[_Iterable[_Union[Code, _Mapping]]] = ...) -> None: ...

class ObjectRecord(_message.Message):
    __slots__ = ("pin_id", "version", "revision", "deleted", "generation", "detector", "embedder", "image_ref", "image_sha256", "image_width", "image_height", "codes", "objects", "colours", "board_id", "title", "annotations", "category_weights", "buyable", "link", "event_time", "recorded_at")
    class CategoryWeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    PIN_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    DETECTOR_FIELD_NUMBER: _ClassVar[int]
    EMBEDDER_FIELD_NUMBER: _ClassVar[int]
    IMAGE_REF_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SHA256_FIELD_NUMBER: _ClassVar[int]
    IMAGE_WIDTH_FIELD_NUMBER: _ClassVar[int]
    IMAGE_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    COLOURS_FIELD_NUMBER: _ClassVar[int]
    BOARD_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    BUYABLE_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    RECORDED_AT_FIELD_NUMBER: _ClassVar[int]
    pin_id: str
    version: int
    revision: int
    deleted: bool
    generation: str
    detector: str
    embedder: str
    image_ref: str
    image_sha256: bytes
    image_width: int
    image_height: int
    codes: _containers.RepeatedCompositeFieldContainer[Code]
    objects: _containers.RepeatedCompositeFieldContainer[DetectedObject]
    colours: _containers.RepeatedCompositeFieldContainer[Colour]
    board_id: str
    title: str
    annotations: _containers.RepeatedScalarFieldContainer[str]
    category_weights: _containers.ScalarMap[str, float]
    buyable: bool
    link: str
    event_time: int
    recorded_at: int
    def __init__(self, pin_id: _Optional[str] = ..., version: _Optional[int] = ..., revision: _Optional[int] = ..., deleted: bool = ..., generation: _Optional[str] = ..., detector: _Optional[str] = ..., embedder: _Optional[str] = ..., image_ref: _Optional[str] = ..., image_sha256: _Optional[bytes] = ..., image_width: _Optional[int] = ..., image_height: _Optional[int] = ..., codes: _Optional[_Iterable[_Union[Code, _Mapping]]] = ..., objects: _Optional[_Iterable[_Union[DetectedObject, _Mapping]]] = ..., colours: _Optional[_Iterable[_Union[Colour, _Mapping]]] = ..., board_id: _Optional[str] = ..., title: _Optional[str] = ..., annotations: _Optional[_Iterable[str]] = ..., category_weights: _Optional[_Mapping[str, float]] = ..., buyable: bool = ..., link: _Optional[str] = ..., event_time: _Optional[int] = ..., recorded_at: _Optional[int] = ...) -> None: ...

class Dot(_message.Message):
    __slots__ = ("object_index", "x", "y", "label", "shown", "similarity", "annotation_score", "category_conformity", "reasons")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[Dot.Reason]
        REASON_SIGNALS: _ClassVar[Dot.Reason]
        REASON_COLD_START: _ClassVar[Dot.Reason]
        REASON_LOW_SCORE: _ClassVar[Dot.Reason]
        REASON_LOW_SIMILARITY: _ClassVar[Dot.Reason]
        REASON_LOW_ANNOTATION: _ClassVar[Dot.Reason]
        REASON_LOW_CONFORMITY: _ClassVar[Dot.Reason]
    REASON_UNSPECIFIED: Dot.Reason
    REASON_SIGNALS: Dot.Reason
    REASON_COLD_START: Dot.Reason
    REASON_LOW_SCORE: Dot.Reason
    REASON_LOW_SIMILARITY: Dot.Reason
    REASON_LOW_ANNOTATION: Dot.Reason
    REASON_LOW_CONFORMITY: Dot.Reason
    OBJECT_INDEX_FIELD_NUMBER: _ClassVar[int]
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SHOWN_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    ANNOTATION_SCORE_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_CONFORMITY_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    object_index: int
    x: float
    y: float
    label: str
    shown: bool
    similarity: float
    annotation_score: float
    category_conformity: float
    reasons: _containers.RepeatedScalarFieldContainer[Dot.Reason]
    def __init__(self, object_index: _Optional[int] = ..., x: _Optional[float] = ..., y: _Optional[float] = ..., label: _Optional[str] = ..., shown: bool = ..., similarity: _Optional[float] = ..., annotation_score: _Optional[float] = ..., category_conformity: _Optional[float] = ..., reasons: _Optional[_Iterable[_Union[Dot.Reason, str]]] = ...) -> None: ...

class DotRecord(_message.Message):
    __slots__ = ("pin_id", "version", "deleted", "generation", "epoch", "decision", "dots", "witnesses", "watermark", "decided_at", "index_objects")
    class WatermarkEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    PIN_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    DOTS_FIELD_NUMBER: _ClassVar[int]
    WITNESSES_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    DECIDED_AT_FIELD_NUMBER: _ClassVar[int]
    INDEX_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    pin_id: str
    version: int
    deleted: bool
    generation: str
    epoch: int
    decision: int
    dots: _containers.RepeatedCompositeFieldContainer[Dot]
    witnesses: _containers.RepeatedScalarFieldContainer[str]
    watermark: _containers.ScalarMap[int, int]
    decided_at: int
    index_objects: int
    def __init__(self, pin_id: _Optional[str] = ..., version: _Optional[int] = ..., deleted: bool = ..., generation: _Optional[str] = ..., epoch: _Optional[int] = ..., decision: _Optional[int] = ..., dots: _Optional[_Iterable[_Union[Dot, _Mapping]]] = ..., witnesses: _Optional[_Iterable[str]] = ..., watermark: _Optional[_Mapping[int, int]] = ..., decided_at: _Optional[int] = ..., index_objects: _Optional[int] = ...) -> None: ...

class GenerationRecord(_message.Message):
    __slots__ = ("name", "fingerprint", "state", "epoch", "detector", "embedder", "bits", "partitions", "changed_at")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[GenerationRecord.State]
        STATE_BUILDING: _ClassVar[GenerationRecord.State]
        STATE_ACTIVE: _ClassVar[GenerationRecord.State]
        STATE_STANDBY: _ClassVar[GenerationRecord.State]
        STATE_RETIRED: _ClassVar[GenerationRecord.State]
    STATE_UNSPECIFIED: GenerationRecord.State
    STATE_BUILDING: GenerationRecord.State
    STATE_ACTIVE: GenerationRecord.State
    STATE_STANDBY: GenerationRecord.State
    STATE_RETIRED: GenerationRecord.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DETECTOR_FIELD_NUMBER: _ClassVar[int]
    EMBEDDER_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    CHANGED_AT_FIELD_NUMBER: _ClassVar[int]
    name: str
    fingerprint: bytes
    state: GenerationRecord.State
    epoch: int
    detector: str
    embedder: str
    bits: int
    partitions: int
    changed_at: int
    def __init__(self, name: _Optional[str] = ..., fingerprint: _Optional[bytes] = ..., state: _Optional[_Union[GenerationRecord.State, str]] = ..., epoch: _Optional[int] = ..., detector: _Optional[str] = ..., embedder: _Optional[str] = ..., bits: _Optional[int] = ..., partitions: _Optional[int] = ..., changed_at: _Optional[int] = ...) -> None: ...

class PairRecord(_message.Message):
    __slots__ = ("pin_id", "board_id", "state", "event_time")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[PairRecord.State]
        STATE_SAVED: _ClassVar[PairRecord.State]
        STATE_UNSAVED: _ClassVar[PairRecord.State]
        STATE_EVICTED: _ClassVar[PairRecord.State]
    STATE_UNSPECIFIED: PairRecord.State
    STATE_SAVED: PairRecord.State
    STATE_UNSAVED: PairRecord.State
    STATE_EVICTED: PairRecord.State
    PIN_ID_FIELD_NUMBER: _ClassVar[int]
    BOARD_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    pin_id: str
    board_id: str
    state: PairRecord.State
    event_time: int
    def __init__(self, pin_id: _Optional[str] = ..., board_id: _Optional[str] = ..., state: _Optional[_Union[PairRecord.State, str]] = ..., event_time: _Optional[int] = ...) -> None: ...
