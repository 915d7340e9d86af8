import pytest

from sharpcli.errors import SettingsError
from sharpcli.settings import HessianSettings, SharpnessSettings, TrainSettings, chosen


def test_one_value_stands_for_several():
    assert TrainSettings(mode="sgd").mode == ("sgd",)
    assert TrainSettings(mode="sgd,fullbatch").mode == ("sgd", "fullbatch")
    assert TrainSettings(model_arg="hidden=32,32").model_arg == ("hidden=32,32",)
    assert SharpnessSettings(epsilon=1e-3, subspace=[0, 5]).subspace == (0, 5)


@pytest.mark.parametrize("options", [{"topk": 2.0}, {"topk": "2"}, {"topk": True}, {"tol": "small"}, {"download": 1}])
def test_a_value_of_the_wrong_type_is_one_sentence(options: dict[str, object]):
    with pytest.raises(SettingsError, match="wrong type"):
        HessianSettings(**options)


def test_a_whole_number_may_stand_for_a_number():
    assert HessianSettings(tol=1).tol == 1


def test_settings_and_options_are_not_mixed():
    with pytest.raises(SettingsError, match="both"):
        chosen(HessianSettings, HessianSettings(), {"topk": 3})
    with pytest.raises(SettingsError, match="Did you mean 'topk'|no setting called 'top'"):
        chosen(HessianSettings, None, {"top": 3})
    assert chosen(HessianSettings, None, {"topk": 3}).topk == 3


@pytest.mark.parametrize("loss", ["hinge", "ce:class_axis=2", "mse:smoothing=0.1", "bce:", "ce-unit-logits"])
def test_a_loss_that_is_none_is_told_at_once(loss: str):
    with pytest.raises(SettingsError) as caught:
        HessianSettings(loss=loss)
    assert caught.value.hint
    assert HessianSettings(loss="ce:class_axis=last,ignore_index=0").loss == "ce:class_axis=last,ignore_index=0"


@pytest.mark.parametrize(
    ("loss", "hint"), [("CE", "Did you mean 'ce'"), ("Cross_Entropy", "Did you mean 'ce'"), ("ce-unit-logits", "Known")]
)
def test_a_loss_of_another_spelling_is_suggested(loss: str, hint: str):
    with pytest.raises(SettingsError) as caught:
        HessianSettings(loss=loss)
    assert hint in caught.value.hint
