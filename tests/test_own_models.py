"""scikit-learn's classifiers, and models and data sets of one's own, through train and predict."""

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.naive_bayes import GaussianNB
from sklearn.utils import all_estimators
from torch import nn

import rarelab as package
from rarelab.cli import main
from rarelab.config import build
from rarelab.config.compose_many import Composer, loader
from rarelab.data.tables.divide import stratified
from rarelab.errors import RarelabError, RequestError
from rarelab.models import Classifier
from rarelab.models.stored import restored, stored
from rarelab.predict import read_model
from rarelab.predict.served import _load_pyfunc

PAGE = (Path(__file__).parent.parent / "docs" / "own-models.md").read_text(encoding="utf-8")
QUIET = ["tracking=none", "tracking.figures=false"]
CLASSIFIERS = {name: made for name, made in all_estimators(type_filter="classifier")}
USED = {
    "forest": ["sklearn.ensemble.RandomForestClassifier", "model.n_estimators=5"],
    "logistic": ["sklearn.linear_model.LogisticRegression", "model.C=0.1"],
    "svc": ["sklearn.svm.SVC"],
}


def digits() -> tuple[np.ndarray, np.ndarray]:
    bunch = load_digits()
    return bunch.data / 16, (bunch.target == 8).astype(int)


def rows(classes: int = 2, n: int = 240, weight: torch.Tensor | None = None) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 4, generator=generator)
    noisy = x[:, 0] + 0.5 * torch.randn(n, generator=generator)
    y = (noisy > 0.7).long()
    y[noisy < -1] = classes - 1 if classes > 2 else 0
    return SimpleNamespace(x=x, y=y, sample_weight=weight)


def fitted(name: str, classes: int = 2, **options: object) -> Classifier:
    model = Classifier(CLASSIFIERS[name](**options), 1 if classes == 2 else classes)
    model.fit(rows(classes), rows(classes), seed=7)
    return model


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.parametrize("name", USED)
def test_a_classifier_by_name_trains_predicts_is_refitted_and_reproduced(
    tmp_path: Path, home: Path, name: str, capsys: pytest.CaptureFixture
) -> None:
    target, *options = USED[name]
    run = package.train(["dataset=digits8", f"model._target_={target}", *options, *QUIET])
    assert run.directory.name.startswith(f"digits8-{target.rpartition('.')[2]}-s0-")
    assert run.metrics["test/aucpr"] > 0.5
    x, y = digits()
    file, output = tmp_path / "digits.parquet", tmp_path / "scores.parquet"
    pd.DataFrame(16 * x, columns=load_digits().feature_names).to_parquet(file)
    assert main(["predict", run.directory.name, str(file), f"output={output}"]) == 0
    scores = pd.read_parquet(output)["score"].to_numpy()
    recorded = pd.read_parquet(run.directory / "predictions.parquet")
    for split, part in zip(("val", "test"), stratified(y, seed=0)[1:], strict=True):
        expected = recorded[recorded["split"] == split]["score"].to_numpy()
        assert scores[part] == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert main(["refit", run.directory.name]) == 0
    (again,) = run.directory.parent.glob("refit-*")
    refitted = package.load(again).score(file)["score"]
    assert np.corrcoef(refitted, scores)[0, 1] > 0.5
    capsys.readouterr()
    assert main(["reproduce", run.directory.name]) == 0
    assert "is reproduced: all" in capsys.readouterr().out


def test_a_refitted_classifier_has_seen_all_rows(home: Path) -> None:
    target, *options = USED["forest"]
    run = package.train(["dataset=digits8", f"model._target_={target}", *options, *QUIET])
    assert main(["refit", run.directory.name]) == 0
    (folder,) = run.directory.parent.glob("refit-*")
    seen = []
    for trained in (run.directory, folder):
        forest = package.load(trained).scorer.model.classifier.estimators_
        assert len(forest) == 5
        seen.append({tree.tree_.weighted_n_node_samples[0] for tree in forest})
    assert seen == [{1078}, {1797}]
    x, y = digits()
    frame = pd.DataFrame(16 * x, columns=load_digits().feature_names)
    found = package.load(folder).score(frame)["score"].to_numpy()
    assert found[y == 1].min() > found[y == 0].min() and found.min() == pytest.approx(-10, abs=0.1)


def test_a_fit_without_validation_rows_keeps_the_floor_of_the_earlier_one() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(300, 3, generator=draw)
    rows = SimpleNamespace(x=x, y=(x[:, 0] > 0.5).long(), sample_weight=None)
    none = SimpleNamespace(x=x[:0], y=rows.y[:0], sample_weight=None)
    earlier, later = (Classifier(GaussianNB(), 1) for _ in range(2))
    earlier.fit(rows, rows, seed=0)
    later.score_as(earlier)
    later.fit(rows, none, seed=0)
    assert later.kept() == {}
    assert later.scores(50 * x).min() == earlier.scores(50 * x).min() < -10


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", ["GaussianNB", "LogisticRegression", "RandomForestClassifier"])
def test_scores_are_log_odds_of_the_classifiers_probabilities(name: str, classes: int) -> None:
    model = fitted(name, classes)
    x = rows(classes).x
    scores = model.scores(x)
    assert scores.dtype == torch.float32
    expected = torch.from_numpy(model.classifier.predict_proba(x.double().numpy())).float()
    if classes == 2:
        torch.testing.assert_close(scores.sigmoid()[:, 0], expected[:, 1], atol=1e-4, rtol=0)
    else:
        torch.testing.assert_close(scores.softmax(1), expected, atol=1e-4, rtol=0)


def test_confident_scores_do_not_tie() -> None:
    """Probabilities next to 1 round to 1."""
    model, x = fitted("LogisticRegression", C=1e6), 100 * rows().x
    rounded = model.classifier.predict_proba(x.double().numpy())[:, 1]
    assert len(model.scores(x).unique()) == len(x) > len(np.unique(rounded))


def test_a_probability_of_zero_is_below_every_other() -> None:
    model = fitted("RandomForestClassifier", n_estimators=400, max_depth=3)
    x = rows().x
    found = model.classifier.predict_proba(x.double().numpy())[:, 1]
    order = np.argsort(found, kind="stable")
    assert (np.diff(model.scores(x)[:, 0].numpy()[order]) >= 0).all()
    assert bool(model.scores(x).isfinite().all())


def test_margins_rank_as_the_decision_function_does() -> None:
    model, x = fitted("SVC"), rows().x
    expected = model.classifier.decision_function(x.double().numpy())
    assert model.scores(x)[:, 0].tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    assert fitted("SVC", 3).scores(x).shape == (len(x), 3)


@pytest.mark.parametrize("name", ["GaussianNB", "LinearSVC"])
def test_a_class_without_training_rows_keeps_its_column(name: str) -> None:
    model = Classifier(CLASSIFIERS[name](), 4)
    model.fit(rows(2), rows(2), seed=0)
    scores = model.scores(rows().x)
    assert scores.shape == (240, 4) and bool((scores[:, 2:] < scores[:, :2].amax(1, True)).all())


def test_the_seed_reaches_inner_estimators_and_weights_reach_the_fit() -> None:
    bagged = CLASSIFIERS["BaggingClassifier"](CLASSIFIERS["ExtraTreeClassifier"](), n_estimators=2)
    model = Classifier(bagged, 1)
    model.fit(rows(), rows(), seed=7)
    assert bagged.random_state == bagged.estimator.random_state == 7
    heavy = Classifier(CLASSIFIERS["LogisticRegression"](), 1)
    heavy.fit(rows(weight=torch.where(rows().y == 1, 20.0, 1.0)), rows(), seed=0)
    assert heavy.scores(rows().x).mean() > fitted("LogisticRegression").scores(rows().x).mean() + 1
    with pytest.raises(RequestError, match="KNeighborsClassifier takes no row weights"):
        Classifier(CLASSIFIERS["KNeighborsClassifier"](), 1).fit(
            rows(weight=torch.ones(240)), rows(), seed=0
        )


def test_what_cannot_be_fitted_or_ranked_is_said_in_one_line(caplog) -> None:
    one = rows()
    one.y[:] = 0
    logistic = CLASSIFIERS["LogisticRegression"]
    for made, train, said in [
        (CLASSIFIERS["RandomForestClassifier"](), one, "all of one class"),
        (CLASSIFIERS["ComplementNB"](), rows(), "cannot be fitted: Negative values"),
        (CLASSIFIERS["OutputCodeClassifier"](logistic()), rows(), "cannot rank rows"),
    ]:
        with pytest.raises(RarelabError, match=said):
            Classifier(made, 1).fit(train, rows(), seed=0)
    with pytest.raises(RequestError, match="decision_function_shape=ovr"):
        fitted("SVC", 4, decision_function_shape="ovo")
    fitted("LogisticRegression", max_iter=1)
    assert "note: LogisticRegression: lbfgs failed to converge" in caplog.text


def test_a_wrong_option_is_refused_with_the_rule_of_the_class() -> None:
    with loader() as found:
        composer = Composer(found)
        for options, said in [
            (["model.n_estimators=0"], r"^model\.n_estimators=0: expected an int in the range \[1"),
            (["model.criterion=gin"], r"^model\.criterion=gin: expected a str among"),
            (["model.n_trees=3"], "n_trees: sklearn.* has no such parameter"),
        ]:
            target = "model._target_=sklearn.ensemble.RandomForestClassifier"
            with pytest.raises(RequestError, match=said):
                build.check(composer.job([target, *options])[0])
        cfg, choices = composer.job(["model._target_=sklearn.ensemble.ExtraTreesClassifier"])
        build.check(cfg)
        assert choices["model"] == "ExtraTreesClassifier" and len(cfg.model) == 1
        kept, _ = composer.job(["model=linear", "model._target_=rarelab.models.Linear"])
        assert kept.model.prior_bias is True
        assert composer.job([])[0].model.hidden == [64, 64]


STORED = {
    "AdaBoostClassifier": {"n_estimators": 3},
    "BaggingClassifier": {"n_estimators": 2},
    "CalibratedClassifierCV": {},
    "DecisionTreeClassifier": {},
    "GaussianNB": {},
    "HistGradientBoostingClassifier": {"max_iter": 3},
    "LinearDiscriminantAnalysis": {},
    "LinearSVC": {},
    "LogisticRegression": {},
    "MLPClassifier": {"max_iter": 500, "hidden_layer_sizes": [4], "early_stopping": True},
    "NuSVC": {"nu": 0.1},
    "QuadraticDiscriminantAnalysis": {},
    "RandomForestClassifier": {"n_estimators": 3},
    "SGDClassifier": {"loss": "log_loss"},
    "SVC": {},
}


@pytest.mark.parametrize("name", STORED)
def test_a_stored_classifier_scores_bit_for_bit(name: str) -> None:
    for classes in (2, 3):
        model = fitted(name, classes, **STORED[name])
        again = Classifier(CLASSIFIERS[name](), model.num_outputs)
        state = model.state()
        assert all(array.dtype.kind in "uf" for array in state.values())
        again.load_state(state)
        assert torch.equal(again.scores(rows().x), model.scores(rows().x))


def test_a_classifier_that_only_pickle_could_store_says_so() -> None:
    for name in ("KNeighborsClassifier", "GradientBoostingClassifier"):
        with pytest.raises(RarelabError, match=f"^{name} is not stored: scoring with a"):
            stored(fitted(name).classifier)
    bagged = CLASSIFIERS["BaggingClassifier"](CLASSIFIERS["KNeighborsClassifier"]())
    model = Classifier(bagged, 1)
    model.fit(rows(), rows(), seed=0)
    with pytest.raises(RarelabError, match="BaggingClassifier is not stored"):
        model.state()


def spoilt_tree(field: str, value: int) -> np.ndarray:
    """A stored tree whose root points elsewhere. (The nodes are a copy: written back.)"""
    import skops.io

    tree = fitted("DecisionTreeClassifier").classifier
    state = tree.tree_.__getstate__()
    state["nodes"][field][0] = value
    tree.tree_.__setstate__(state)
    return np.frombuffer(skops.io.dumps(tree), dtype=np.uint8)


def test_a_hostile_classifier_is_refused_before_it_scores(tmp_path: Path) -> None:
    import skops.io

    tree, svc = CLASSIFIERS["DecisionTreeClassifier"], CLASSIFIERS["SVC"]
    for field, value in [("left_child", 10**9), ("right_child", 0), ("left_child", -7)]:
        with pytest.raises(ValueError, match="a tree points outside its nodes"):
            restored(spoilt_tree(field, value), tree)
    for value in (4, -5):
        with pytest.raises(ValueError, match="a column that does not exist"):
            restored(spoilt_tree("feature", value), tree)
    forest = fitted("RandomForestClassifier", n_estimators=2).classifier
    forest.estimators_[1].n_features_in_ = 9
    with pytest.raises(ValueError, match="other columns than its forest"):
        restored(np.frombuffer(skops.io.dumps(forest), np.uint8), type(forest))
    machine = fitted("SVC").classifier
    machine._n_support = machine._n_support + 1000
    with pytest.raises(ValueError, match="support vector machine do not match"):
        restored(np.frombuffer(skops.io.dumps(machine), np.uint8), svc)
    with pytest.raises(ValueError, match="it holds a SVC, expected a DecisionTreeClassifier"):
        restored(stored(fitted("SVC").classifier), tree)
    near = fitted("KNeighborsClassifier", algorithm="brute").classifier
    with pytest.raises(ValueError, match="scoring with a KNeighborsClassifier"):
        restored(np.frombuffer(skops.io.dumps(near), np.uint8), type(near))
    machine = fitted("SVC").classifier
    machine.classes_ = {"run": Path.unlink}
    with pytest.raises(ValueError, match=r"it holds a .*unlink"):
        restored(np.frombuffer(skops.io.dumps(machine), np.uint8), svc)


def reader(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Follow the page up to its commands, which are returned: files in ``folder``, data beside."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    data, models = blocks("python")
    Path("my_data.py").write_text(data, encoding="utf-8")
    Path("my_models.py").write_text(models, encoding="utf-8")
    leaves = dict(
        re.findall(r"`(my_conf/[\w/.]+yaml)`(?:(?!```).)*```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    )
    assert len(leaves) == 4
    for name, text in leaves.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
    x, y = digits()
    np.savez("images.npz", x=x.reshape(-1, 1, 8, 8), y=y)
    np.savez("embeddings.npz", x=x, y=y)
    np.save("new_images.npy", x.reshape(-1, 1, 8, 8))
    np.savez("new_embeddings.npz", x)
    (last,) = [block for block in blocks("console") if "CONV_RUN" in block]
    return [shlex.split(line)[1:] for line in last.splitlines()]


def test_the_pages_own_models_work_as_written(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    _, train_cnn, train_centres, predict_cnn, predict_centres = reader(tmp_path, monkeypatch)
    short = [*QUIET, "trainer.max_epochs=2"]
    assert main([*train_cnn, *short]) == 0 and main([*train_centres, *short]) == 0
    cnn, centres = sorted(path for path in (home / "runs/rarelab").iterdir() if path.is_dir())[::-1]
    if "centres" in cnn.name:
        cnn, centres = centres, cnn
    for command, run, placeholder, out in [
        (predict_cnn, cnn, "CONV_RUN", "new_images"),
        (predict_centres, centres, "CENTRES_RUN", "new_embeddings"),
    ]:
        assert main([part.replace(placeholder, run.name) for part in command]) == 0
        table = pd.read_csv(f"{out}.scores.csv")
        assert [*table.columns][:3] == ["row", "score", "probability"]
        assert table["row"].tolist() == [*range(len(table))] and table["rank"].min() == 1
        scores = table["score"].to_numpy(dtype=np.float32)
        recorded = pd.read_parquet(run / "predictions.parquet")["score"].to_numpy()
        assert len(scores) == len(digits()[1])
        assert set(np.round(recorded, 3)) <= set(np.round(scores, 3))
        capsys.readouterr()
        assert main(["reproduce", run.name, "allow_targets=[my_data,my_models]"]) == 0
        name = f"rarelab/{run.name}"
        assert main(["predict", name, f"{out}.scores.csv", "allow_targets=[my_models]"]) == 2
        assert "was trained on arrays, not on columns" in capsys.readouterr().err
        assert main(["predict", name, "images.npz", "output=x.csv"]) == 2
        assert "is not a model of rarelab, torch or scikit-learn" in capsys.readouterr().err
    kept = ["predict", f"rarelab/{cnn.name}", "new_images.npy", "allow_targets=[my_models]", "id=a"]
    assert main([*kept, "overwrite=true"]) == 2
    assert "id: this run was trained on arrays" in capsys.readouterr().err
    np.save("wrong.npy", np.zeros((3, 8, 8)))
    np.save("nan.npy", np.full((2, 1, 8, 8), np.nan))
    for file, said in {"wrong.npy": "expected rows [N, 1, 8, 8]", "nan.npy": "2 rows hold"}.items():
        assert main(["predict", f"rarelab/{cnn.name}", file, "allow_targets=[my_models]"]) == 2
        assert said in capsys.readouterr().err


def test_the_convolutional_network_that_comes_with_it_scores_arrays_of_ones_own(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    train, *_ = reader(tmp_path, monkeypatch)
    assert main([*train, *QUIET, "trainer.max_epochs=6", "trainer.batch_size=128"]) == 0
    (run,) = (path for path in (home / "runs/rarelab").iterdir() if path.is_dir())
    assert main(["predict", run.name, "new_images.npy"]) == 0  # its class needs no trust
    recorded = pd.read_parquet(run / "predictions.parquet")["score"].to_numpy()
    scores = pd.read_csv("new_images.scores.csv")["score"].to_numpy(dtype=np.float32)
    assert set(np.round(recorded, 3)) <= set(np.round(scores, 3))
    assert main(["reproduce", run.name, "allow_targets=[my_data]"]) == 0
    capsys.readouterr()
    assert main(["export", run.name, "onnx"]) == 2
    assert "export takes runs on tables; it was trained on arrays" in capsys.readouterr().err


def test_a_network_on_images_trains_with_a_ranking_loss_and_may_give_one_score_per_row(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader(tmp_path, monkeypatch)
    Path("flat_models.py").write_text(
        "from my_models import Conv\n"
        "class Flat(Conv):\n"
        "    def forward(self, images):\n"
        "        return super().forward(images)[:, 0]\n",
        encoding="utf-8",
    )
    asked = ["dataset._target_=my_data.Arrays", "dataset.path=images.npz", "loss=smooth_ap"]
    asked += ["allow_targets=[my_data,my_models,flat_models]", "trainer.max_epochs=12", *QUIET]
    asked += ["schedule.warmup_epochs=2", "schedule.blend_epochs=1", "trainer.batch_size=128"]
    asked += ["optimizer.lr=0.01"]
    column = package.train([*asked, "model._target_=my_models.Conv"])
    flat = package.train([*asked, "model._target_=flat_models.Flat"])
    assert column.metrics["test/aucpr"] > 0.5
    assert flat.metrics == column.metrics
    images = np.load("new_images.npy")
    scorers = [
        read_model(run.directory / "model", ["my_models", "flat_models"]) for run in (column, flat)
    ]
    assert torch.equal(*(scorer.scores(images) for scorer in scorers))


def test_a_run_on_arrays_leaves_an_mlflow_model(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.models import Model

    from rarelab.tracking.mlmodel import describe

    reader(tmp_path, monkeypatch)
    asked = ["dataset._target_=my_data.Arrays", "dataset.path=images.npz", *QUIET]
    run = package.train(
        [
            *asked,
            *["model._target_=" + USED["forest"][0], "model.n_estimators=3"],
            "allow_targets=[my_data]",
        ]
    )
    folder = run.directory / "model"
    assert describe(folder, "0" * 32)
    model = Model.load(str(folder))
    assert model.signature is not None
    assert model.signature.inputs.inputs[0].shape == (-1, 1, 8, 8)
    example = model.load_input_example(str(folder))
    served = _load_pyfunc(str(folder))
    assert served.predict(example)["score"].notna().all()
    assert len(served.predict(np.load("new_images.npy"), {"budget": 0.05})) == len(digits()[1])


class Wrong(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.LazyLinear(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (["model=mlp"], "data set 'images' has images [N, C, H, W]; choose a model for images:"),
        (["model=hist_gradient_boosting"], "takes rows [N, F], data set 'images' has images"),
        (
            ["model._target_=torch.nn.Linear", "model.in_features=9", "model.out_features=1"],
            "Linear cannot score rows [N, 1, 8, 8] of data set 'images'",
        ),
        (
            ["model._target_=test_own_models.Wrong", "model.width=3"],
            "Wrong gives [N, 3] for rows [N, 1, 8, 8], expected logits [N, 1] or [N]",
        ),
        (
            ["model._target_=test_own_models.rows"],
            "returns a SimpleNamespace, expected a torch module, a classifier",
        ),
    ],
)
def test_a_model_that_does_not_fit_the_rows_is_refused_before_training(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, model: list[str], said: str
) -> None:
    reader(tmp_path, monkeypatch)
    asked = ["dataset._target_=my_data.Arrays", "dataset.path=images.npz", "loss=bce"]
    with pytest.raises(RequestError) as refused:
        package.train([*asked, *model, "allow_targets=[my_data,test_own_models]", *QUIET])
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert not (home / "runs").exists()
