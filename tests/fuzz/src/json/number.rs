//! Numbers in plain decimal.

/// Whether a number is within a few thousandths of the largest double. It compares a tenth of the number,
/// which is in range.
pub(super) fn is_on_the_edge(mantissa: &str, exponent: i64) -> bool {
    let tenth = format!("{mantissa}e{}", exponent.saturating_sub(1)).parse::<f64>();
    tenth.is_ok_and(|tenth| (1.79e307..1.80e307).contains(&tenth.abs()))
}

/// A number in plain decimal, as Postgres writes a `numeric`. None if it is longer than any document may be,
/// or a zero with so large an exponent that Postgres refuses it.
pub(super) fn written_out(sign: &str, integer: &str, fraction: &str, exponent: i64) -> Option<String> {
    let digits = format!("{integer}{fraction}");
    let zero = digits.bytes().all(|digit| digit == b'0');
    let exponent = i32::try_from(exponent).ok().filter(|exponent| exponent.unsigned_abs() < 40_000)?;
    if zero && exponent > 16_384 {
        return None;
    }
    // Room for the point to move to either side.
    let room = usize::try_from(exponent.unsigned_abs()).ok()?;
    let padding = "0".repeat(room);
    let padded = format!("{padding}{digits}{padding}");
    let point = padding.len() + integer.len();
    let point = if exponent < 0 { point - room } else { point + room };
    // The padding at the end belongs to the number only as far as the digits or the point reach.
    let end = (padding.len() + digits.len()).max(point);
    let integer = match padded[..point].trim_start_matches('0') {
        "" => "0",
        integer => integer,
    };
    let fraction = &padded[point..end];
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{sign}{integer}{point}{fraction}"))
}

pub(super) fn without_idle_zeros(plain: &str) -> String {
    let short = if plain.contains('.') { plain.trim_end_matches('0').trim_end_matches('.') } else { plain };
    if short == "-0" { "0".to_owned() } else { short.to_owned() }
}
