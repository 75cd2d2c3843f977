/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fmt.c - text without stdio: printf's common conversions, sizes and numbers.
 *
 * Owns formatting into bounded buffers and reading numbers from text that need
 * not be NUL-terminated.  Does not own "max" and "-1" of knobs (knob/), nor
 * where texts go.
 *
 * Entry points: fmt_add(), fmt_str(), size_parse(), num_parse(), size_print().
 *
 * Invariants: what is in the buffer is NUL-terminated after every call (unless
 * its size is 0); len counts also what did not fit.  Reentrant, no locale.
 */
#include "base/fmt.h"

#include <errno.h>
#include <string.h>

/* Digits of a u64 in base 8, the longest there is. */
#define DIGITS_MAX 22

/* One conversion as read from the format. */
struct spec {
	bool left; /* '-' */
	bool zero; /* '0' */
	int width;
	int precision; /* -1: none */
	int size; /* bytes of the integer argument: 4 or 8 */
};

static void put_char(struct fmt *f, char c)
{
	if (f->len + 1 < f->size) {
		f->buf[f->len] = c;
		f->buf[f->len + 1] = '\0';
	}
	f->len++;
}

static void put_padding(struct fmt *f, char c, int nr)
{
	while (nr-- > 0)
		put_char(f, c);
}

static void put_text(struct fmt *f, const struct spec *spec, const char *s)
{
	int len = 0, i;

	if (!s)
		s = "(null)";
	while ((spec->precision < 0 || len < spec->precision) && s[len])
		len++;
	if (!spec->left)
		put_padding(f, ' ', spec->width - len);
	for (i = 0; i < len; i++)
		put_char(f, s[i]);
	if (spec->left)
		put_padding(f, ' ', spec->width - len);
}

static void put_number(struct fmt *f, const struct spec *spec, u64 value, unsigned base,
		       const char *prefix)
{
	char digits[DIGITS_MAX];
	int nr = 0, len;

	do {
		digits[nr++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	len = nr + (int)strlen(prefix);
	if (!spec->left && !spec->zero)
		put_padding(f, ' ', spec->width - len);
	while (*prefix)
		put_char(f, *prefix++);
	if (!spec->left && spec->zero)
		put_padding(f, '0', spec->width - len);
	while (nr)
		put_char(f, digits[--nr]);
	if (spec->left)
		put_padding(f, ' ', spec->width - len);
}

static void put_signed(struct fmt *f, const struct spec *spec, s64 value)
{
	if (value < 0)
		put_number(f, spec, 0 - (u64)value, 10, "-");
	else
		put_number(f, spec, (u64)value, 10, "");
}

static const char *read_int(const char *p, va_list *ap, int *ret)
{
	int n = 0;

	if (*p == '*') {
		*ret = va_arg(*ap, int);
		return p + 1;
	}
	while (*p >= '0' && *p <= '9')
		n = n * 10 + (*p++ - '0');
	*ret = n;
	return p;
}

/* Everything between '%' and the letter of the conversion. */
static const char *read_spec(const char *p, va_list *ap, struct spec *spec)
{
	*spec = (struct spec){ .precision = -1, .size = 4 };
	for (; *p == '-' || *p == '0'; p++) {
		if (*p == '-')
			spec->left = true;
		else
			spec->zero = true;
	}
	p = read_int(p, ap, &spec->width);
	if (spec->width < 0) {
		spec->left = true;
		spec->width = -spec->width;
	}
	if (*p == '.')
		p = read_int(p + 1, ap, &spec->precision);
	while (*p == 'l' || *p == 'z' || *p == 'h') {
		spec->size = *p == 'h' ? 4 : 8;
		p++;
	}
	return p;
}

static void put_conversion(struct fmt *f, char letter, const struct spec *spec, va_list *ap)
{
	switch (letter) {
	case 's':
		put_text(f, spec, va_arg(*ap, const char *));
		break;
	case 'c':
		put_char(f, (char)va_arg(*ap, int));
		break;
	case 'd':
	case 'i':
		put_signed(f, spec, spec->size == 8 ? va_arg(*ap, s64) : va_arg(*ap, int));
		break;
	case 'u':
	case 'x':
		put_number(f, spec, spec->size == 8 ? va_arg(*ap, u64) : va_arg(*ap, unsigned),
			   letter == 'x' ? 16 : 10, "");
		break;
	case 'p':
		put_number(f, spec, (u64)va_arg(*ap, void *), 16, "0x");
		break;
	case '%':
		put_char(f, '%');
		break;
	default: /* the compiler has warned: the letter shows */
		put_char(f, '%');
		put_char(f, letter);
		break;
	}
}

void fmt_init(struct fmt *f, char *buf, size_t size)
{
	f->buf = buf;
	f->size = size;
	f->len = 0;
	if (size)
		buf[0] = '\0';
}

void fmt_vadd(struct fmt *f, const char *format, va_list ap_in)
{
	va_list ap;

	/* A va_list parameter is an array on x86-64; a copy has an address. */
	va_copy(ap, ap_in);
	while (*format) {
		struct spec spec;

		if (*format != '%') {
			put_char(f, *format++);
			continue;
		}
		format = read_spec(format + 1, &ap, &spec);
		if (!*format)
			break;
		put_conversion(f, *format++, &spec, &ap);
	}
	va_end(ap);
}

void fmt_add(struct fmt *f, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fmt_vadd(f, format, ap);
	va_end(ap);
}

size_t fmt_str(char *buf, size_t size, const char *format, ...)
{
	struct fmt f;
	va_list ap;

	fmt_init(&f, buf, size);
	va_start(ap, format);
	fmt_vadd(&f, format, ap);
	va_end(ap);
	return f.len;
}

/* ---- numbers and sizes ------------------------------------------------------- */

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Value of a digit in any base up to 16; 16 if it is none. */
static unsigned digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	if (c >= 'a' && c <= 'f')
		return (unsigned)(c - 'a') + 10;
	if (c >= 'A' && c <= 'F')
		return (unsigned)(c - 'A') + 10;
	return 16;
}

/*
 * Digits at the front of text in the base its prefix says.  Stores how many
 * characters that were; a "0x" without digit after it is the number 0.
 */
static int read_number(const char *text, size_t len, size_t *ret_used, u64 *ret)
{
	unsigned base = 10;
	bool overflow = false;
	u64 value = 0;
	size_t i = 0;

	if (len && text[0] == '0') {
		base = 8;
		if (len > 2 && (text[1] == 'x' || text[1] == 'X') && digit_value(text[2]) < 16) {
			base = 16;
			i = 2;
		}
	}
	if (i == len || digit_value(text[i]) >= base)
		return -EINVAL;
	for (; i < len && digit_value(text[i]) < base; i++) {
		overflow |= __builtin_mul_overflow(value, (u64)base, &value);
		overflow |= __builtin_add_overflow(value, (u64)digit_value(text[i]), &value);
	}
	*ret_used = i;
	*ret = value;
	return overflow ? -ERANGE : 0;
}

/* Powers of 1024 that a suffix stands for; 0 if it is none. */
static unsigned suffix_power(char c)
{
	static const char upper[] = "KMGTPE", lower[] = "kmgtpe";
	unsigned i;

	for (i = 0; upper[i]; i++) {
		if (c == upper[i] || c == lower[i])
			return i + 1;
	}
	return 0;
}

int size_parse(const char *text, size_t len, u64 *ret_bytes)
{
	unsigned shift = 0;
	size_t used = 0;
	u64 value = 0;
	int err;

	while (len && is_space(text[0])) {
		text++;
		len--;
	}
	while (len && is_space(text[len - 1]))
		len--;
	err = read_number(text, len, &used, &value);
	if (err == -EINVAL)
		return err;
	if (used < len && suffix_power(text[used]))
		shift = 10 * suffix_power(text[used++]);
	if (used != len)
		return -EINVAL;
	if (err || value > UINT64_MAX >> shift)
		return -ERANGE;
	*ret_bytes = value << shift;
	return 0;
}

int num_parse(const char *text, size_t len, u64 *ret)
{
	size_t used = 0;
	u64 value = 0;
	int err = read_number(text, len, &used, &value);

	if (err == -EINVAL || used != len)
		return -EINVAL;
	if (err)
		return err;
	*ret = value;
	return 0;
}

/* One decimal, rounded, and none where it would be 0. */
char *size_print(char *buf, u64 bytes)
{
	static const char unit[] = "\0KMGTPE";
	unsigned power = 0;
	u64 whole, tenth;

	if (bytes == UINT64_MAX) {
		fmt_str(buf, 16, "max");
		return buf;
	}
	while (power < 6 && bytes >> (10 * power) >= 1024)
		power++;
	whole = bytes >> (10 * power);
	tenth = 0;
	if (power) {
		/* The last ten bits below the point are enough for one digit. */
		u64 rest = (bytes >> (10 * (power - 1))) & 1023;

		tenth = (rest * 10 + 512) / 1024;
	}
	if (tenth == 10) {
		tenth = 0;
		if (++whole == 1024 && power < 6) {
			whole = 1;
			power++;
		}
	}
	if (tenth)
		fmt_str(buf, 16, "%llu.%llu%c", (unsigned long long)whole,
			(unsigned long long)tenth, unit[power]);
	else if (power)
		fmt_str(buf, 16, "%llu%c", (unsigned long long)whole, unit[power]);
	else
		fmt_str(buf, 16, "%llu", (unsigned long long)whole);
	return buf;
}
