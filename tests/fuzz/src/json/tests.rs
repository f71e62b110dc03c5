use super::*;

#[test]
fn numbers_are_written_out() {
    for (number, plain, short) in [
        ("0", "0", "0"),
        ("-0", "-0", "0"),
        ("1.50", "1.50", "1.5"),
        ("1.50e1", "15.0", "15"),
        ("1.5e3", "1500", "1500"),
        ("-12.5e-3", "-0.0125", "-0.0125"),
        ("0.001e2", "0.1", "0.1"),
        ("0e7", "0", "0"),
        ("0.0e-2", "0.000", "0"),
        ("10E+1", "100", "100"),
    ] {
        let document = format!("[{number}]");
        let read = any(&document).unwrap();
        assert_eq!(read.value, Value::Array(vec![Value::Number(short.to_owned())]), "{number}");
        assert_eq!(read.written_out, plain.len() + 2, "{number}");
    }
}

#[test]
fn each_fault_is_found() {
    for (text, fault) in [
        ("{\"a\":01}", Fault::Syntax),
        ("{\"a\":1.}", Fault::Syntax),
        ("{\"a\":\"\u{1}\"}", Fault::Syntax),
        ("\u{a0}{}", Fault::Syntax),
        ("[]", Fault::NoObject),
        (&"[".repeat(65), Fault::Deep),
        ("{\"a\":1,\"\\u0061\":2}", Fault::Twice),
        ("{\"a\":\"\\u0000\"}", Fault::Nul),
        ("{\"a\":\"\\ud83d\\u0061\"}", Fault::HalfPair),
        ("{\"a\":1e309}", Fault::Range),
        ("{\"a\":1e-20000}", Fault::Large),
    ] {
        assert_eq!(read(text).unwrap_err(), fault, "{text}");
    }
}
