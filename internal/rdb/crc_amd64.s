#include "go_asm.h"
#include "textflag.h"

// FOLD multiplies a lane of 16 bytes by the power of x that stands for the
// distance to the bytes it is added to next: its first half by the low half of X8,
// its second by the high one. Both products have less than 128 bits, and so has
// their sum.
#define FOLD(lane) \
	MOVO      lane, X9       \
	PCLMULQDQ $0x00, X8, lane \
	PCLMULQDQ $0x11, X8, X9  \
	PXOR      X9, lane

// NEXT folds a lane onto the bytes at SI+offset.
#define NEXT(offset, lane) \
	FOLD(lane)              \
	MOVOU offset(SI), X10   \
	PXOR  X10, lane

// MERGE folds a lane onto the one behind it.
#define MERGE(lane, behind) \
	FOLD(lane)            \
	PXOR lane, behind

// func fold(rest *[16]byte, crc uint64, p []byte, by *powers)
TEXT ·fold(SB), NOSPLIT, $0-48
	MOVQ rest+0(FP), DI
	MOVQ p_base+16(FP), SI
	MOVQ p_len+24(FP), CX
	MOVQ by+40(FP), DX

	// The sum so far is added to the first eight bytes.
	MOVOU 0(SI), X0
	MOVOU 16(SI), X1
	MOVOU 32(SI), X2
	MOVOU 48(SI), X3
	MOVOU 64(SI), X4
	MOVOU 80(SI), X5
	MOVOU 96(SI), X6
	MOVOU 112(SI), X7
	MOVQ  crc+8(FP), X9
	PXOR  X9, X0
	ADDQ  $128, SI
	SUBQ  $128, CX

	// All lanes at a time. The multiplications of one do not wait for those of
	// another.
	MOVOU powers_lanes(DX), X8
	CMPQ  CX, $128
	JB    merge

lanes:
	NEXT(0, X0)
	NEXT(16, X1)
	NEXT(32, X2)
	NEXT(48, X3)
	NEXT(64, X4)
	NEXT(80, X5)
	NEXT(96, X6)
	NEXT(112, X7)
	ADDQ $128, SI
	SUBQ $128, CX
	CMPQ CX, $128
	JAE  lanes

	// From eight lanes to one, the last.
merge:
	MOVOU powers_lane(DX), X8
	MERGE(X0, X1)
	MERGE(X1, X2)
	MERGE(X2, X3)
	MERGE(X3, X4)
	MERGE(X4, X5)
	MERGE(X5, X6)
	MERGE(X6, X7)

	// What is left, fewer than 128 bytes.
	SUBQ $16, CX
	JB   done

tail:
	NEXT(0, X7)
	ADDQ $16, SI
	SUBQ $16, CX
	JAE  tail

done:
	MOVOU X7, (DI)
	RET
