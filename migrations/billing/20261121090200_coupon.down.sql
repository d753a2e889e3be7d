drop table coupon_drift;
drop table coupon_redemption;
drop table coupon_plan;
drop table coupon;
drop function refuse_change_of_redeemed_coupon_part();
drop function refuse_change_of_redeemed_coupon();
