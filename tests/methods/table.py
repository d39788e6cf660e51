"""One row a method. A method without a row fails the suite; add yours to the list of its kind."""

from __future__ import annotations

from cmkd.methods.ab import ab
from cmkd.methods.at import at
from cmkd.methods.barlow_twins import barlow_twins
from cmkd.methods.c2kd import c2kd
from cmkd.methods.cc import cc
from cmkd.methods.crd import crd
from cmkd.methods.crodino_kd import info_nce
from cmkd.methods.ctkd import ctkd
from cmkd.methods.decorrelation import decorrelation
from cmkd.methods.discom_kd import overlap
from cmkd.methods.dist import dist
from cmkd.methods.dkd import dkd
from cmkd.methods.ds import channel_independence, feature_uniformity
from cmkd.methods.fd_cmkd import fd_cmkd
from cmkd.methods.fitnet import fitnet
from cmkd.methods.fixmatch import fixmatch
from cmkd.methods.fsp import fsp
from cmkd.methods.ft import ft
from cmkd.methods.generalized import generalized
from cmkd.methods.hallucination import hallucination
from cmkd.methods.hypersphere import hypersphere
from cmkd.methods.ickd import ickd
from cmkd.methods.kd import kd
from cmkd.methods.koleo import koleo
from cmkd.methods.lskd import lskd
from cmkd.methods.mfh import mfh
from cmkd.methods.mgd import mgd
from cmkd.methods.mlld import mlld
from cmkd.methods.mst_distill import mst_distill
from cmkd.methods.nkd import nkd
from cmkd.methods.nst import nst
from cmkd.methods.ofa import ofa
from cmkd.methods.ofd import ofd
from cmkd.methods.pkt import pkt
from cmkd.methods.review_kd import review_kd
from cmkd.methods.rkd import rkd_angle, rkd_distance
from cmkd.methods.simkd import simkd
from cmkd.methods.sliced_wasserstein import sliced_wasserstein
from cmkd.methods.sp import sp
from cmkd.methods.srd import srd
from cmkd.methods.srrl import srrl
from cmkd.methods.ttm import ttm
from cmkd.methods.uniformity import uniformity
from cmkd.methods.vicreg import vicreg
from cmkd.methods.vicreg_reg import vicreg_reg
from cmkd.methods.vid import vid
from cmkd.methods.vkd import vkd
from cmkd.methods.wsld import wsld
from cmkd.methods.wttm import wttm

from . import slow_cross_modal, slow_features, slow_logits, slow_structure
from .rows import BOTH, DEEP, EMBEDDINGS, LABELED, LOGITS, Case, Row

STUDENT = ("student_embedding",)
DIST = {"beta": 0.7, "gamma": 1.3, "temperature": 2.0}

CONTROLS = [
    Row("none"),
    Row("all_labels"),
    Row("teacher_init"),
    Row(
        "decorrelation",
        (Case(decorrelation, STUDENT, slow_structure.decorrelation),),
    ),
    Row("koleo", (Case(koleo, STUDENT, slow_structure.koleo, {}, "koleo"),)),
    Row(
        "uniformity",
        (Case(uniformity, STUDENT, slow_structure.uniformity, {"t": 2.5}, "uniformity"),),
    ),
    Row(
        "vicreg_reg",
        (Case(vicreg_reg, STUDENT, slow_structure.vicreg_reg, {"variance_weight": 3.0, "covariance_weight": 2.0}),),
    ),
]

ON_LOGITS = [
    Row("self_training", (Case(kd, LOGITS, slow_logits.kd, {"temperature": 1.0}, "kd"),), same_classes=True),
    Row(
        "fixmatch",
        (Case(fixmatch, LOGITS, slow_logits.fixmatch, {"threshold": 0.6}),),
        options={"threshold": 0.3},
    ),
    Row("kd", (Case(kd, LOGITS, slow_logits.kd, {"temperature": 3.0}, "kd"),), same_classes=True),
    Row(
        "dkd",
        (Case(dkd, LABELED, slow_logits.dkd, {"alpha": 0.7, "beta": 3.0, "temperature": 2.0}, "dkd"),),
        same_classes=True,
    ),
    Row(
        "dist",
        (
            Case(dist, LOGITS, slow_logits.dist, {**DIST, "times_squared_temperature": True}, "dist"),
            Case(dist, LOGITS, slow_logits.dist, {**DIST, "times_squared_temperature": False}),
        ),
        same_classes=True,
    ),
    Row("lskd", (Case(lskd, LOGITS, slow_logits.lskd, {"temperature": 1.5}, "lskd"),), same_classes=True),
    Row("nkd", (Case(nkd, LABELED, slow_logits.nkd, {"temperature": 1.5, "gamma": 0.8}, "nkd"),), same_classes=True),
    Row(
        "wsld",
        (Case(wsld, LABELED, slow_logits.wsld, {"temperature": 1.5}, "wsld", constant_parts=True),),
        same_classes=True,
    ),
    Row("ttm", (Case(ttm, LOGITS, slow_logits.ttm, {"exponent": 0.3}, "ttm"),), same_classes=True),
    Row("wttm", (Case(wttm, LOGITS, slow_logits.wttm, {"exponent": 0.3}, "wttm"),), same_classes=True),
    Row(
        "ctkd",
        (
            Case(
                ctkd,
                (*LOGITS, "one"),
                slow_logits.ctkd,
                {"lowest": 1.0, "span": 3.0, "reversal": 0.5},
            ),
        ),
        same_classes=True,
    ),
    Row(
        "mlld",
        (Case(mlld, LOGITS, slow_logits.mlld, {"temperatures": (1.5, 4.0)}, "mlld"),),
        same_classes=True,
    ),
    Row("ofa", (Case(ofa, LABELED, slow_logits.ofa, {"gamma": 1.4, "temperature": 1.3}, "ofa"),), same_classes=True),
    Row("generalized", (Case(generalized, LOGITS, slow_logits.generalized, {"temperature": 1.5}),), same_classes=True),
]

ON_FEATURES = [
    Row("fitnet", (Case(fitnet, DEEP, slow_features.fitnet, {}, "fitnet"),)),
    Row(
        "at",
        (
            Case(at, BOTH, slow_features.at, {"power": 2.0, "paper_form": False}, "at"),
            Case(at, BOTH, slow_features.at, {"power": 3.0, "paper_form": True}),
        ),
    ),
    Row("sp", (Case(sp, DEEP, slow_features.sp, {}, "sp"),)),
    Row(
        "rkd",
        (
            Case(rkd_distance, EMBEDDINGS, slow_features.rkd_distance, {}, "rkd_distance"),
            Case(rkd_angle, EMBEDDINGS, slow_features.rkd_angle, {}, "rkd_angle"),
        ),
    ),
    Row("pkt", (Case(pkt, EMBEDDINGS, slow_features.pkt, {}, "pkt"),)),
    Row(
        "cc",
        (
            Case(cc, EMBEDDINGS, slow_features.cc, {"gamma": 0.3, "order": 3, "paper_form": False}, "cc"),
            Case(cc, EMBEDDINGS, slow_features.cc, {"gamma": 0.4, "order": 2, "paper_form": True}),
        ),
    ),
    Row("nst", (Case(nst, DEEP, slow_features.nst, {}, "nst"),)),
    Row("fsp", (Case(fsp, BOTH, slow_features.fsp, {}, "fsp"),)),
    Row("ab", (Case(ab, BOTH, slow_features.ab, {"margin": 0.8}, "ab"),)),
    Row("vid", (Case(vid, (*DEEP, "log_scale"), slow_features.vid, {}, "vid"),)),
    Row("ofd", (Case(ofd, (*DEEP, "margin"), slow_features.ofd, {}, "ofd"),)),
    Row("review_kd", (Case(review_kd, BOTH, slow_features.review_kd, {}, "review_kd"),)),
    Row("ickd", (Case(ickd, DEEP, slow_features.ickd, {}, "ickd"),)),
    Row("vkd", (Case(vkd, EMBEDDINGS, slow_features.vkd, {}, "vkd"),)),
    Row("simkd", (Case(simkd, EMBEDDINGS, slow_features.squares),), same_classes=True),
    Row("srrl", (Case(srrl, LOGITS, slow_features.squares),)),
    Row("ft", (Case(ft, DEEP, slow_features.ft),)),
    Row("mgd", (Case(mgd, DEEP, slow_features.mgd),), options={"masked": 0.5}),
    Row(
        "crd",
        (
            Case(
                crd,
                (*EMBEDDINGS, "teacher_negatives"),
                slow_features.crd,
                {"temperature": 2.0, "log_normalizer": 0.3},
            ),
        ),
        options={"negatives": 16, "dim": 5},
    ),
    Row("srd", (Case(srd, EMBEDDINGS, slow_features.srd, {"exponent": 3.0}, "srd"),)),
]

CROSS_MODAL = [
    Row(
        "c2kd",
        (
            Case(
                c2kd,
                LABELED,
                slow_cross_modal.c2kd,
                {"threshold": 0.1, "temperature": 2.0},
            ),
        ),
        same_classes=True,
    ),
    Row(
        "fd_cmkd",
        (Case(fd_cmkd, EMBEDDINGS, slow_cross_modal.fd_cmkd, {"low_share": 0.5, "high_weight": 0.7}),),
        same_classes=True,
    ),
    Row("hallucination", (Case(hallucination, EMBEDDINGS, slow_cross_modal.hallucination),), same_classes=True),
    Row(
        "crodino_kd",
        (Case(info_nce, EMBEDDINGS, slow_cross_modal.info_nce, {"temperature": 0.3}),),
        same_classes=True,
    ),
    Row("discom_kd", (Case(overlap, EMBEDDINGS, slow_cross_modal.overlap),), same_classes=True),
    Row("mfh", (Case(mfh, (*EMBEDDINGS, "general"), slow_cross_modal.mfh),)),
    Row(
        "mst_distill",
        (
            Case(
                mst_distill,
                ("student_logits", "teacher_views", "teacher_share"),
                slow_cross_modal.mst_distill,
                {"temperature": 3.0},
            ),
        ),
        same_classes=True,
    ),
]

STRUCTURE = [
    Row(
        "barlow_twins",
        (Case(barlow_twins, EMBEDDINGS, slow_structure.barlow_twins, {"off_diagonal_weight": 0.3}, "barlow_twins"),),
    ),
    Row(
        "ds",
        (
            *(
                Case(
                    channel_independence,
                    EMBEDDINGS,
                    slow_structure.independence,
                    {"off_diagonal_weight": 0.3, "reference": reference},
                )
                for reference in ("teacher", "cross", "self", "structure")
            ),
            *(
                Case(
                    feature_uniformity,
                    EMBEDDINGS,
                    slow_structure.feature_uniformity,
                    {"t": 1.5, "center": center, "reference": reference, "eps": 1e-3},
                )
                for center in (True, False)
                for reference in ("pairs", "teacher", "self")
            ),
        ),
        same_classes=True,
    ),
    Row(
        "hypersphere",
        (
            Case(
                hypersphere,
                EMBEDDINGS,
                slow_structure.hypersphere,
                {"t": 1.5, "alignment_power": 1.5, "uniformity_weight": 0.7},
                "hypersphere",
            ),
        ),
    ),
    Row(
        "sliced_wasserstein",
        (Case(sliced_wasserstein, EMBEDDINGS, slow_structure.sliced_wasserstein, {"directions": 5, "seed": 3}),),
    ),
    Row(
        "vicreg",
        (
            Case(
                vicreg,
                EMBEDDINGS,
                slow_structure.vicreg,
                {"invariance_weight": 2.0, "variance_weight": 3.0, "covariance_weight": 0.5},
                "vicreg",
            ),
        ),
    ),
]

ROWS = [*CONTROLS, *ON_LOGITS, *ON_FEATURES, *CROSS_MODAL, *STRUCTURE]
