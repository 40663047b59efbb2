from __future__ import annotations

import pytest

from autoseg.planning.side_names import one_sided_names, paired_names


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("LeftParotid", "RightParotid"),
        ("kidney_left", "kidney_right"),
        ("FEMUR LEFT", "FEMUR RIGHT"),
        ("Left-Lateral-Ventricle", "Right-Lateral-Ventricle"),
        ("hippocampus_left_anterior", "hippocampus_right_anterior"),
        ("leftkidney", "rightkidney"),
        ("femur_L", "femur_R"),
        ("kidney (l)", "kidney (r)"),
        ("Parotid_Lt", "Parotid_Rt"),
        ("ctx-lh-cuneus", "ctx-rh-cuneus"),
        ("AdrenalL", "AdrenalR"),
        ("LLung", "RLung"),
        ("LKIDNEY", "RKIDNEY"),
        ("L", "R"),
        ("Niere links", "Niere rechts"),
        ("linke_Niere", "rechte_Niere"),
        ("rein gauche", "rein droit"),
        ("jambe_gauche", "jambe_droite"),
        ("rein_g", "rein_d"),
        ("riñón izquierdo", "riñón derecho"),
        ("rene sinistro", "rene destro"),
        ("ren_sinister", "ren_dexter"),
        ("почка левая", "почка правая"),
        ("左肾", "右肾"),
    ],
)
def test_pairs_as_people_write_them(left: str, right: str) -> None:
    assert paired_names([right, "liver", left]) == ((left, right),)


@pytest.mark.parametrize(
    "names",
    [
        ["Anterior", "Posterior"],
        ["l1", "l2", "r1", "r2"],
        ["zone_k", "zone_l", "zone_q", "zone_r"],
        ["grade_a", "grade_d", "grade_g"],
        ["kidney_l", "spleen"],
        ["lung", "rung"],
        ["vertebrae_L1", "vertebrae_T1"],
        ["light", "right_angle"],
        ["G", "D"],
        ["LV", "RV", "MYO"],
        ["tumor", "bright_spot", "leftover"],
        ["upper_jaw", "lower_jaw"],
    ],
)
def test_other_names_are_no_pairs(names: list[str]) -> None:
    assert paired_names(names) == ()
    assert [name for name in one_sided_names(names) if name != "right_angle"] == []


def test_one_side_without_the_other() -> None:
    assert one_sided_names(["left_kidney", "liver"]) == ("left_kidney",)
    assert one_sided_names(["Niere rechts"]) == ("Niere rechts",)
    # of these the other side looks otherwise, or they mean both
    assert one_sided_names(["left atrium", "left_ventricle", "left_main", "left_and_right_kidney", "left"]) == ()


def test_every_pair_is_listed_once() -> None:
    names = ["rib_left_1", "rib_right_1", "rib_left_2", "rib_right_2"]
    assert paired_names(names) == (("rib_left_1", "rib_right_1"), ("rib_left_2", "rib_right_2"))
