//! The packed files of the kept inputs, and what becomes of them on the way to libFuzzer and back.

use std::fs;
use std::path::Path;

use cimd_cache_fuzz::TARGETS;
use cimd_cache_fuzz::corpus::{Kept, packed, packed_file, read_directory, unpacked, write_directory};

fn kept(name: Option<&str>, input: &str) -> Kept {
    Kept { name: name.map(str::to_owned), input: input.to_owned() }
}

#[test]
fn what_is_unpacked_and_packed_again_gives_the_same_file() {
    for (target, _) in TARGETS {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("unpacked").join(target);
        let _ = fs::remove_dir_all(&directory);
        let file = fs::read_to_string(packed_file(target)).unwrap();
        let kept = unpacked(&file).unwrap();
        assert!(kept.len() > 5, "{target}: {}", kept.len());
        write_directory(&directory, &kept).unwrap();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), kept.len(), "{target}");
        assert!(packed(read_directory(&directory).unwrap()) == file, "{target}");
        assert!(write_directory(&directory, &kept).is_err(), "what is there is not mixed with it");
    }
}

#[test]
fn a_packed_file_has_the_named_inputs_first_and_each_once_whatever_their_order() {
    let inputs = [kept(None, "b"), kept(Some("y"), "\"\n\u{1}é"), kept(None, "a"), kept(Some("x"), "c")];
    let file = "{\"name\":\"x\",\"input\":\"c\"}\n{\"name\":\"y\",\"input\":\"\\\"\\n\\u0001é\"}\n\
                {\"input\":\"a\"}\n{\"input\":\"b\"}\n";
    assert_eq!(packed(inputs.to_vec()), file);
    assert_eq!(packed(inputs.iter().rev().cloned().collect()), file);
    assert_eq!(packed([&inputs[..], &[kept(None, "c"), kept(None, "a")]].concat()), file);
    let [b, y, a, x] = inputs;
    assert_eq!(unpacked(file).unwrap(), [x, y, a, b]);
}

#[test]
fn a_line_that_is_no_input_is_named() {
    for (file, error) in
        [("{\"input\":\"\"}\n{\"name\":\"x\"}\n", "line 2"), ("x", "line 1"), ("\n", "line 1")]
    {
        assert!(unpacked(file).unwrap_err().to_string().contains(error), "{file}");
    }
}
