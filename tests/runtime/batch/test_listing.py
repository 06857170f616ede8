import os

import pytest

pytest.importorskip("pyarrow", reason="the extra batch is not installed")

import pyarrow as pa
import pyarrow.parquet as pq

from feredge.runtime.batch import batch
from feredge.runtime.batch.listing import list_inputs
from feredge.runtime.batch.storage import FileSystems, open_place
from feredge.runtime.errors import SourceError, UsageError

TREE = ["b/2.PNG", "b/1.jpg", "a.jpeg", "clip.mp4", "b/.hidden.jpg", ".cache/4.jpg", "notes.doc",
        "b/c/3.webp"]


@pytest.fixture
def tree(tmp_path):
    for name in TREE:
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "tree"


def names(tree, *sources):
    return [(kind, os.path.relpath(unit, tree)) for kind, unit in list_inputs(sources)]


def test_a_folder_is_all_pictures_and_videos_below_it(tree):
    assert names(tree, str(tree)) == [
        ("pictures", "a.jpeg"), ("video", "clip.mp4"), ("pictures", "b/1.jpg"),
        ("pictures", "b/2.PNG"), ("pictures", "b/c/3.webp")]


def test_a_glob_is_what_matches(tree):
    assert names(tree, f"{tree}/*/*.jpg") == [("pictures", "b/1.jpg")]
    assert sorted(names(tree, f"{tree}/**/*.[jw]*")) == [
        ("pictures", "a.jpeg"), ("pictures", "b/1.jpg"), ("pictures", "b/c/3.webp")]


def test_a_file_with_the_characters_of_a_glob_is_itself(tree):
    (tree / "a[1].jpg").write_bytes(b"x")
    assert names(tree, f"{tree}/a[1].jpg") == [("pictures", "a[1].jpg")]


def test_a_list_has_one_name_per_line_relative_to_the_current_directory(tree, monkeypatch):
    (tree / "list.txt").write_text("b/1.jpg\r\n\ns3://bucket/key 1.jpg\n/x/clip.mkv\n")
    monkeypatch.chdir(tree)
    assert list(list_inputs(["list.txt"])) == [
        ("pictures", str(tree / "b/1.jpg")), ("pictures", "s3://bucket/key 1.jpg"),
        ("video", "/x/clip.mkv")]


def test_a_name_that_is_not_utf8_is_kept(tree):
    raw = os.fsencode(tree) + b"/\xff.jpg"
    with open(raw, "wb") as file:
        file.write(b"x")
    assert os.fsdecode(raw) in [unit for _, unit in list_inputs([str(tree)])]


def test_a_parquet_file_has_paths_or_pictures(tree):
    pq.write_table(pa.table({"path": ["/x/1.jpg", None, "2.mp4"]}), tree / "paths.parquet")
    assert list(list_inputs([str(tree / "paths.parquet")])) == [
        ("pictures", "/x/1.jpg"), ("video", os.path.abspath("2.mp4"))]
    pq.write_table(pa.table({"image": [b"1", b"2"]}), tree / "images.parquet")
    assert names(tree, str(tree / "images.parquet")) == [
        ("rows", "images.parquet#0"), ("rows", "images.parquet#1")]
    pq.write_table(pa.table({"other": [1]}), tree / "other.parquet")
    with pytest.raises(SourceError, match=r"has columns other; expected image \(bytes\) or path"):
        list(list_inputs([str(tree / "other.parquet")]))


@pytest.mark.parametrize("form", ["bytes", "structs"])
def test_pictures_in_a_parquet_file_are_rows(form, options, pictures, tmp_path, read_rows):
    """In row groups of 3, so that chunks start inside of groups; one is no picture."""
    contents = [path.read_bytes() for path in sorted(pictures.iterdir())]
    contents[4] = b"no picture"
    values = contents if form == "bytes" else [
        {"bytes": content, "path": "x.jpg"} for content in contents]
    source = tmp_path / "images.parquet"
    pq.write_table(pa.table({"image": values}), source, row_group_size=3)
    batch(options(output=str(tmp_path / "files")))
    batch(options(sources=(str(source),)))
    rows = {row["unit"]: row for row in read_rows(options().output)}
    expected = read_rows(tmp_path / "files")
    for k, row in enumerate(expected):
        found = rows[f"{source}#{k}"]
        assert found["source"] == str(source)
        if k == 4:
            assert f"{source}#4" in found["error"] and not found["faces"]
        else:
            assert found["faces"] == row["faces"]


def test_names_are_listed_once(options, pictures):
    twice = (str(pictures), f"{pictures}/*.jpg")
    assert batch(options(sources=twice)).rows == 20


def test_fsspec_opens_what_pyarrow_does_not(options, pictures, read_rows):
    """In this process, since it is the only one that sees the memory."""
    import fsspec

    from feredge.runtime.batch.pictures import PictureReader

    memory = fsspec.filesystem("memory")
    memory.put(str(pictures), "/bucket/pictures", recursive=True)
    listed = list(list_inputs(["memory://bucket/pictures"]))
    assert listed[0] == ("pictures", "memory://bucket/pictures/0000.jpg") and len(listed) == 20
    units = tuple(unit for _, unit in listed)
    with PictureReader(FileSystems(["memory://bucket"]), "pictures", units) as reader:
        assert all(reader.read(k).shape[2] == 3 for k in range(20))


def test_a_scheme_that_nothing_opens_is_named():
    with pytest.raises(UsageError, match="gopher:// cannot be opened"):
        open_place("gopher://host/x")


def test_public_names_have_no_password_and_no_query():
    place = open_place("s3://key:secret@bucket/a b?region=us-east-1")
    assert place.path == "bucket/a b"
    assert place.name_of("bucket/a b/1.jpg") == "s3://bucket/a b/1.jpg"


def test_a_damaged_parquet_file_is_one_line(tree):
    (tree / "damaged.parquet").write_bytes(b"PAR1 and nothing else PAR1")
    with pytest.raises(SourceError, match="is damaged or no Parquet file"):
        list(list_inputs([str(tree / "damaged.parquet")]))


def test_paths_of_a_parquet_file_that_are_numbers_are_names(tree):
    pq.write_table(pa.table({"path": [1, 2]}), tree / "numbers.parquet")
    assert [unit.rpartition("/")[2] for _, unit in
            list_inputs([str(tree / "numbers.parquet")])] == ["1", "2"]
