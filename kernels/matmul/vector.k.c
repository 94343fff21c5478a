/* Vectors of VL floats on an OpenCL CPU: reading and writing at any alignment.
 *
 *   REAL, INTV, UINTV        float, int and uint vectors of VL lanes
 *   VLOAD(T, p, i)           VL elements of type T from p[i], as REAL
 *   VSTORE(T, p, i, v)       the same out, rounded to nearest even, integers and 8-bit floats saturated
 *   VSTORE_INT(p, i, v)      an INTV, exactly */
#ifndef VL
#define VL 16
#endif
#define REAL CAT(float, VL)
#define INTV CAT(int, VL)
#define UINTV CAT(uint, VL)
#define VLOAD(T, p, i) CAT(VLOAD_, T)(p, i)
#define VLOAD_f32(p, i) CAT(vload, VL)(0, (p) + (i))
#define VLOAD_f16(p, i) CAT(vload_half, VL)(0, (p) + (i))
#define VLOAD_bf16(p, i)                                                                           \
    CAT(as_float, VL)(CAT(convert_uint, VL)(CAT(vload, VL)(0, (p) + (i))) << 16)
#define VLOAD_i8(p, i) CAT(convert_float, VL)(CAT(vload, VL)(0, (p) + (i)))
#define VLOAD_i32(p, i) CAT(convert_float, VL)(CAT(vload, VL)(0, (p) + (i)))
#define VLOAD_tf32(p, i) VLOAD_f32(p, i)
#define VLOAD_e4m3(p, i) CAT(k_from_e4m3_, VL)(CAT(vload, VL)(0, (p) + (i)))
#define VLOAD_e5m2(p, i) CAT(k_from_e5m2_, VL)(CAT(vload, VL)(0, (p) + (i)))
#define VSTORE(T, p, i, v) CAT(VSTORE_, T)(p, i, v)
#define VSTORE_f32(p, i, v) CAT(vstore, VL)(v, 0, (p) + (i))
#define VSTORE_f16(p, i, v) CAT4(vstore_half, VL, _, rte)(v, 0, (p) + (i))
#define VSTORE_bf16(p, i, v) CAT(vstore, VL)(CAT(k_to_bf16_, VL)(v), 0, (p) + (i))
#define VSTORE_e4m3(p, i, v) CAT(vstore, VL)(CAT(k_to_e4m3_, VL)(v), 0, (p) + (i))
#define VSTORE_e5m2(p, i, v) CAT(vstore, VL)(CAT(k_to_e5m2_, VL)(v), 0, (p) + (i))
#define VSTORE_i8(p, i, v) CAT(vstore, VL)(CAT4(convert_char, VL, _sat, _rte)(v), 0, (p) + (i))
#define VSTORE_i32(p, i, v) CAT(vstore, VL)(CAT4(convert_int, VL, _sat, _rte)(v), 0, (p) + (i))
#define VSTORE_INT(p, i, v) CAT(vstore, VL)(v, 0, (p) + (i))

#if ACC_INT
#define ACCV INTV
#define ACCV_FLOAT(x) CAT(convert_float, VL)(x)
#define ACCV_OF(x) CAT(convert_int, VL)(x)
#else
#define ACCV REAL
#define ACCV_FLOAT(x) (x)
#define ACCV_OF(x) (x)
#endif
